"""A unit of a batch job: same scores as online, whole parts or none, and nothing lost when it is cut short."""

from __future__ import annotations

import asyncio
import errno
import json
import random

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch.jobs.worker import _judge
from batch.transforms.results import build_rejected
from serve_app.errors import BadRequestError, InvalidDataError, InvariantError, OverloadedError, ReplicaLostError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.row_errors import RowError
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.core.commits import UnitTally
from tests.testing_kit.batch.batch_jobs import LocalJob, make_rows, read_output, read_rejected, spoil, write_rows

pytestmark = pytest.mark.unit


def expect(package, table: pa.Table) -> np.ndarray:
    batch = table.select(list(package.manifest.feature_names)).combine_chunks().to_batches()[0]
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(batch)
    return package.model.predict(*encoded.for_model)


def test_scores_are_those_of_the_package_to_the_last_bit_in_the_order_of_the_rows(package, tmp_path):
    tables = write_rows(tmp_path / "in", 2, 300)
    draw = random.Random(0)

    async def take_a_while() -> None:  # answers overtake one another
        await asyncio.sleep(draw.random())

    job = LocalJob(package, tmp_path / "in", tmp_path / "out", before_encode=take_a_while, before_predict=take_a_while)
    summary = job.run()
    found = read_output(tmp_path / "out")
    expected = pa.concat_tables(tables)
    assert found.column("order_id").to_pylist() == expected.column("order_id").to_pylist()
    assert np.array_equal(found.column("probability").to_numpy(), expect(package, expected))
    assert found.column("user_id").equals(expected.column("user_id"))
    bands = [package.manifest.thresholds.recommend(p) for p in found.column("probability").to_pylist()]
    assert found.column("recommendation").to_pylist() == bands
    assert set(found.column("version").to_pylist()) == {1}
    assert (summary["rows_read"], summary["rows_scored"], summary["is_complete"]) == (600, 600, True)


def test_rejected_rows_go_aside_with_index_reason_and_row(package, tmp_path):
    (tmp_path / "in").mkdir()
    table = spoil(make_rows(300), [3, 120, 299])
    pq.write_table(table, tmp_path / "in" / "a.parquet", row_group_size=100)
    summary = LocalJob(package, tmp_path / "in", tmp_path / "out").run()
    assert (summary["rows_read"], summary["rows_scored"], summary["rows_rejected"]) == (300, 297, 3)
    rejected = read_rejected(tmp_path / "out")
    assert [r["row"] for r in rejected] == [3, 120, 299]
    assert {r["column"] for r in rejected} == {"price"}
    assert "above 0, got -1" in rejected[0]["reason"]
    assert json.loads(rejected[1]["content"])["order_id"] == 120
    kept = [k for k in range(300) if k not in {3, 120, 299}]
    assert read_output(tmp_path / "out").column("order_id").to_pylist() == kept
    assert np.array_equal(read_output(tmp_path / "out").column("probability").to_numpy(), expect(package, table))


def test_rejected_rows_are_counted_by_reason_in_the_summary_and_after_a_resume(package, tmp_path):
    rows = spoil(spoil(make_rows(300), [5, 250]), [7], "hour", 77)
    (tmp_path / "in").mkdir()
    pq.write_table(rows, tmp_path / "in" / "a.parquet", row_group_size=100)
    (tmp_path / "in" / "b.jsonl").write_text("garbage\n" + json.dumps(make_rows(1, 1, 300).to_pylist()[0]))
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    expected = {"price: a value out of its range": 2, "a line that is no row": 1, "hour: a value out of its range": 1}
    summary = job.run()
    assert (summary["rows_rejected"], summary["rejected_by_reason"]) == (4, expected)
    again = UnitTally(job.plan.units)
    again.add(job.output.commits())
    assert list(again.to_summary()["rejected_by_reason"].items()) == list(expected.items())


def test_a_row_is_rejected_whatever_python_cannot_hold_of_it(package, tmp_path):
    table = spoil(make_rows(4), [1, 2])
    seconds = pa.array([0, 400_000_000_000, None, 0], pa.timestamp("s"))
    texts = pa.Array.from_buffers(pa.string(), 4, [None, pa.array([0, 1, 3, 4, 5], pa.int32()).buffers()[1],
                                                   pa.py_buffer(b"a\xffbcd")])  # fmt: skip
    late = pa.StructArray.from_arrays([seconds], ["t"])
    table = table.append_column("at", seconds).append_column("text", texts).append_column("late", late)
    (tmp_path / "in").mkdir()
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    assert LocalJob(package, tmp_path / "in", tmp_path / "out").run()["rows_rejected"] == 2
    first, second = (json.loads(r["content"]) for r in read_rejected(tmp_path / "out"))
    assert first["at"].startswith("14645")
    assert (first["text"], first["late"]) == ("\ufffdb", [["t", first["at"]]])
    assert (second["order_id"], second["at"], second["text"]) == (2, None, "c")


def test_a_member_that_is_there_twice_is_shown_twice():
    twice = pa.StructArray.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    batch = pa.RecordBatch.from_arrays([twice], ["x"])
    (row,) = build_rejected("f", batch, [RowError(0, "price", "bad", "type")], np.array([7])).to_pylist()
    assert (row["row"], json.loads(row["content"])) == (7, {"x": [["a", 1], ["a", 2]]})


def test_a_unit_that_is_given_up_shows_the_error_and_no_piece_of_a_traceback():
    assert _judge(RuntimeError("it broke")) == ("failed", "RuntimeError: it broke")


def test_rows_with_equal_keys_are_all_scored(package, tmp_path):
    (tmp_path / "in").mkdir()
    table = make_rows(60)
    table = table.set_column(0, "order_id", pa.array([7] * 60))
    pq.write_table(table, tmp_path / "in" / "a.parquet")
    assert LocalJob(package, tmp_path / "in", tmp_path / "out").run()["rows_scored"] == 60


def test_nothing_appears_before_its_chunk_is_whole(package, tmp_path):
    write_rows(tmp_path / "in", 1, 200)
    seen: list[list[str]] = []

    async def look() -> None:
        seen.append(sorted(p.name for p in (tmp_path / "out").glob("part-*")))

    LocalJob(package, tmp_path / "in", tmp_path / "out", before_predict=look).run()
    assert seen == [[]] * 4
    assert [p.name for p in (tmp_path / "out").glob("part-*")] == ["part-000000-0000.parquet"]
    assert not list((tmp_path / "out" / "_job" / "staging").iterdir())


def test_a_unit_that_is_cut_short_goes_on_after_its_last_chunk(package, tmp_path):
    write_rows(tmp_path / "in", 1, 1000, group_rows=1000)
    LocalJob(package, tmp_path / "in", tmp_path / "whole").run()
    n_calls = 0

    async def die_at_the_eleventh() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls == 11:
            raise RuntimeError("killed")

    job = LocalJob(package, tmp_path / "in", tmp_path / "out", before_encode=die_at_the_eleventh)
    with pytest.raises(RuntimeError, match="killed"):
        job.score(0)
    before = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("part-*")}
    assert len(before) == 2
    assert not list((tmp_path / "out" / "_job" / "staging").iterdir())
    commits = job.score(0)
    assert [c.counts.read for c in commits] == [200] * 5
    assert n_calls == 11 + 12
    assert read_output(tmp_path / "out").equals(read_output(tmp_path / "whole"))
    after = {p.name: p.read_bytes() for p in (tmp_path / "out").glob("part-*")}
    assert {name: after[name] for name in before} == before


def test_a_unit_that_is_done_is_not_read_again(package, tmp_path):
    write_rows(tmp_path / "in", 1, 200)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    commits = job.score(0)
    n_calls = job.model.n_calls
    assert job.score(0) == commits
    assert job.model.n_calls == n_calls


def test_a_part_without_its_record_is_written_again_in_place(package, tmp_path):
    write_rows(tmp_path / "in", 1, 200)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    (commit,) = job.score(0)
    (tmp_path / "out" / "_job" / "commits" / "000000-0000.json").unlink()
    assert job.score(0) == [commit]
    assert read_output(tmp_path / "out").num_rows == 200


def test_batches_of_a_lost_replica_are_sent_again(package, tmp_path):
    write_rows(tmp_path / "in", 1, 200)
    n_calls = 0

    async def be_lost_at_first() -> None:
        nonlocal n_calls
        n_calls += 1
        if n_calls <= 6:
            raise ReplicaLostError("gone", 1.0) if n_calls % 2 else OverloadedError("full", 1.0)

    job = LocalJob(package, tmp_path / "in", tmp_path / "out", before_predict=be_lost_at_first)
    assert job.run()["rows_scored"] == 200
    assert read_output(tmp_path / "out").column("order_id").to_pylist() == list(range(200))


@pytest.mark.parametrize("error", [ReplicaLostError("gone", 1.0), FileNotFoundError("gone"), ConnectionError("gone")])
def test_patience_ends(package, tmp_path, error):
    write_rows(tmp_path / "in", 1, 200)

    async def be_lost() -> None:
        raise error

    job = LocalJob(package, tmp_path / "in", tmp_path / "out", before_encode=be_lost)
    with pytest.raises(ReplicaLostError, match="no replica answered for 120 s: gone"):
        job.score(0)


def test_no_more_calls_are_under_way_than_the_pace_allows(package, tmp_path):
    write_rows(tmp_path / "in", 1, 1000, group_rows=1000)
    under_way = most = 0

    async def count() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(1.0)
        under_way -= 1

    job = LocalJob(package, tmp_path / "in", tmp_path / "out", before_encode=count)
    job.score(0)
    assert 2 <= most <= 4


def test_a_full_disk_is_said_and_leaves_no_part(package, tmp_path, monkeypatch):
    write_rows(tmp_path / "in", 1, 200)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")

    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("serve_app.jobs.adapters.output_folder._sync", fill)
    with pytest.raises(BadRequestError, match=r"no space left\. Free some, then continue with --resume"):
        job.score(0)
    assert not list((tmp_path / "out").glob("part-*"))
    assert not list((tmp_path / "out" / "_job" / "staging").iterdir())
    monkeypatch.undo()
    assert job.run()["is_complete"]


@pytest.mark.parametrize("step", ["write_table", "close"])
@pytest.mark.parametrize("wanted", [{}, {"partition_by": ("user_id",)}])
def test_a_disk_that_fills_while_a_part_is_written_is_said_and_leaves_no_part(
    package, tmp_path, monkeypatch, step, wanted
):
    write_rows(tmp_path / "in", 1, 200)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out", **wanted)

    def fill(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"pyarrow.parquet.ParquetWriter.{step}", fill)
    with pytest.raises(BadRequestError, match=r"no space left\. Free some, then continue with --resume"):
        job.score(0)
    assert not list((tmp_path / "out" / "_job" / "staging").iterdir())
    monkeypatch.undo()
    assert job.run()["is_complete"]


@pytest.mark.parametrize("missing", ["_job/commits", "_rejected/part-000000-0000.parquet"])
def test_an_output_that_cannot_be_used_is_no_input_that_cannot_be_read(package, tmp_path, missing):
    write_rows(tmp_path / "in", 1, 200)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    path = tmp_path / "out" / missing
    if path.is_dir():
        path.rmdir()
        path.write_text("")
    else:
        path.mkdir(parents=True)
    with pytest.raises(BadRequestError, match="out cannot be written or read"):
        job.score(0)


def test_a_file_that_breaks_off_is_an_error_of_reading(package, tmp_path):
    write_rows(tmp_path / "in", 1, 400)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out")
    path = tmp_path / "in" / "rows-0.parquet"
    data = bytearray(path.read_bytes())
    data[2000:12000] = bytes(10000)
    path.write_bytes(bytes(data))
    with pytest.raises((OSError, pa.ArrowException)):
        job.score(0)
    assert not list((tmp_path / "out").glob("part-*"))


def test_values_become_folders(package, tmp_path):
    tables = write_rows(tmp_path / "in", 1, 300)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("recommendation", "user_id"))
    job.run()
    assert (tmp_path / "out" / "recommendation=low" / "user_id=u003" / "part-000000-0000.parquet").exists()
    found = pq.read_table(tmp_path / "out")
    by_id = dict(zip(found.column("order_id").to_pylist(), found.column("probability").to_pylist(), strict=True))
    assert np.array_equal(np.array([by_id[k] for k in range(300)]), expect(package, tables[0]))


def test_ids_are_no_partitions(package, tmp_path, monkeypatch):
    monkeypatch.setattr("batch.transforms.partitions.MAX_PARTITIONS", 100)
    write_rows(tmp_path / "in", 1, 200)
    job = LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("order_id",))
    with pytest.raises(InvalidDataError, match="would make 200 folders"):
        job.score(0)


def write_groups(folder, groups: pa.Array, name: str = "g") -> None:
    folder.mkdir()
    pq.write_table(make_rows(len(groups)).append_column(name, groups), folder / "a.parquet")


def test_values_that_look_alike_have_folders_of_their_own(package, tmp_path):
    groups = [None, "__HIVE_DEFAULT_PARTITION__", "", "__EMPTY__", "a/b", "a%2Fb", "..", "ä", "g=1"]
    write_groups(tmp_path / "in", pa.array(groups * 3, pa.string()))
    LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("g",), batch_rows=10).run()
    folders = {p.parent.name: sorted(pq.ParquetFile(p).read().column("order_id").to_pylist())
               for p in (tmp_path / "out").glob("g=*/part-*")}  # fmt: skip
    assert sorted(folders.values()) == [[k, k + 9, k + 18] for k in range(9)]
    assert folders["g=__HIVE_DEFAULT_PARTITION__"][0] == 0
    assert folders["g=__EMPTY__"][0] == 2
    assert folders["g=a%2Fb"][0] == 4


@pytest.mark.parametrize("name", ["x/../../../../ESCAPED", "..", "_rejected", "x=1", "%2F"])
def test_the_name_of_a_column_stays_in_the_output(package, tmp_path, name):
    write_groups(tmp_path / "in", pa.array(["u", "v"] * 10), name)
    output = tmp_path / "x" / "y" / "z" / "out"
    LocalJob(package, tmp_path / "in", output, partition_by=(name,)).run()
    parts = [p for p in tmp_path.rglob("part-*.parquet") if "_rejected" not in p.parts]
    assert len(parts) == 2
    assert all(p.parent.parent == output and not p.parent.name.startswith(("_", ".")) for p in parts)
    assert set(pq.read_table(output).column(name).to_pylist()) == {"u", "v"}


@pytest.mark.parametrize("name", ["../x", "a/../x", "/x", "a//x", "", "a/./x"])
def test_nothing_is_written_beside_the_output(tmp_path, name):
    output = OutputFolder(str(tmp_path / "out"))
    output.prepare()
    with pytest.raises(InvariantError, match="no file below the output"), output.create(name):
        pass


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32(), pa.list_(pa.int64()), pa.binary()])
def test_numbers_with_fractions_are_no_partitions(package, tmp_path, kind):
    write_groups(tmp_path / "in", pa.nulls(4, kind))
    with pytest.raises(InvalidDataError, match="no names of folders: choose one of texts, whole numbers"):
        LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("g",))
    with pytest.raises(InvalidDataError, match="names user_id more than once"):
        LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("user_id", "user_id"))


@pytest.mark.parametrize(
    "groups",
    [
        pa.array([1, None, 2, 1]),
        pa.array([True, None, False, True]),
        pa.array([0, None, 86_400, 0], pa.timestamp("s")),
        pa.array(["a", None, "b", "a"]).dictionary_encode(),
        pa.nulls(4),
    ],
)
def test_every_row_is_in_one_partition(package, tmp_path, groups):
    write_groups(tmp_path / "in", groups)
    LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("g",), batch_rows=2).run()
    assert sorted(read_output(tmp_path / "out").column("order_id").to_pylist()) == [0, 1, 2, 3]
    assert len(list((tmp_path / "out").glob("g=*"))) == len(set(groups.to_pylist()))


def test_parts_that_miss_rows_are_not_committed(package, tmp_path, monkeypatch):
    write_groups(tmp_path / "in", pa.array(["a", "b"]))
    monkeypatch.setattr("batch.jobs.chunk.split_partitions", lambda keys: [("g=a", np.array([0]))])
    job = LocalJob(package, tmp_path / "in", tmp_path / "out", partition_by=("g",))
    with pytest.raises(InvariantError, match="2 scored, 1 in the parts"):
        job.score(0)
    assert job.output.commits() == []


def test_reasons_are_the_strongest_shap_values(package, tmp_path):
    tables = write_rows(tmp_path / "in", 1, 100)
    LocalJob(package, tmp_path / "in", tmp_path / "out", explain=3).run()
    batch = tables[0].select(list(package.manifest.feature_names)).combine_chunks().to_batches()[0]
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(batch)
    shap = package.model.explain(*encoded.for_model)
    for k, reasons in enumerate(read_output(tmp_path / "out").column("reasons").to_pylist()):
        order = np.argsort(-np.abs(shap[k, :-1]), kind="stable")[:3]
        assert [r["feature"] for r in reasons] == [package.manifest.feature_names[j] for j in order]
        assert np.allclose([r["contribution"] for r in reasons], shap[k, order], rtol=0, atol=1e-12)

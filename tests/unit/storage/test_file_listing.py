"""Which files of a folder are read, which are passed over in silence, and which are named."""

from __future__ import annotations

import os

import pyarrow.fs as pafs
import pytest

from serve_app.errors import InvalidDataError, NotFoundError
from serve_app.storage.file_listing import describe_left_out, list_files
from serve_app.storage.file_names import read_partitions

pytestmark = pytest.mark.unit
SUFFIXES = (".csv", ".csv.gz", ".parquet")


@pytest.fixture(params=["folder", "store"])
def listed(request, tmp_path):
    """Write files and list them, of this machine, and by the way that object stores are listed."""

    def run(*names, root="in", **options):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x")
        system = pafs.LocalFileSystem()
        place = str(tmp_path / root)
        if request.param == "store":
            system, place = pafs.SubTreeFileSystem(str(tmp_path), system), root
        found = list_files(system, place, SUFFIXES, **options)
        return [info.path[len(place) :].strip("/") for info in found.files], found.left_out

    return run


def test_hidden_names_are_passed_over_in_silence_at_any_depth(listed):
    names = ["a.csv", ".a.csv", "_a.csv", "._a.parquet", "_SUCCESS", ".a.crc", "_temporary/b.csv", "x/.y/c.csv"]
    assert listed(*(f"in/{name}" for name in names)) == (["a.csv"], [])


def test_a_partition_of_a_column_that_begins_with_an_underscore_is_read(listed):
    assert listed("in/_day=1/a.csv", "in/.day=1/a.csv") == (["_day=1/a.csv"], [])


def test_endings_are_read_in_upper_and_lower_case(listed):
    names = ["A.CSV", "B.Parquet", "C.CSV.GZ", "d.csv"]
    assert listed(*(f"in/{name}" for name in names)) == (names, [])


def test_what_is_left_out_for_its_ending_is_named(listed):
    names, left_out = listed("in/a.csv", "in/notes.txt", "in/x/b.xlsx", "in/csv")
    assert names == ["a.csv"]
    assert left_out == ["csv", "notes.txt", "x/b.xlsx"]
    assert describe_left_out(left_out) == "3 files or folders are not read: csv, notes.txt, x/b.xlsx"
    assert describe_left_out(["a"]) == "1 file or folder is not read: a"
    assert describe_left_out([]) == ""
    assert describe_left_out([str(k) for k in range(2_000)]).endswith("are not read: 0, 1, 2, 3, 4 and 1,995 more")


@pytest.mark.parametrize("mark", ["_SUMMARY.json", "_job/plan.json", "_job/commits/000000-0000.json"])
def test_the_output_of_a_job_is_no_input_unless_it_is_asked_for(listed, mark):
    names = ["in/a.csv", f"in/scores/{mark}", "in/scores/part-0.parquet", "in/scores/day=1/part-0.parquet"]
    assert listed(*names) == (["a.csv"], ["scores (a job's output)"])
    assert listed(root="in/scores")[0] == ["day=1/part-0.parquet", "part-0.parquet"]


def test_nothing_to_read_is_said_with_what_is_there(listed):
    with pytest.raises(InvalidDataError, match=r"holds no file that ends in one of .*\.parquet; it holds a\.txt$"):
        listed("in/a.txt")
    with pytest.raises(InvalidDataError, match="must end in one of"):
        listed(root="in/a.txt")
    with pytest.raises(NotFoundError, match="there is no event log at"):
        listed(root="nowhere", what="no event log")


def test_a_single_file_is_read_whatever_folders_it_is_in(listed):
    assert listed("in/_x/.a.csv", root="in/_x/.a.csv") == ([""], [])


@pytest.mark.parametrize("length", [300, 5_000])
def test_a_name_that_the_system_does_not_take_is_said_in_words(tmp_path, length):
    with pytest.raises(InvalidDataError, match=r"cannot be read: file name too long$"):
        list_files(pafs.LocalFileSystem(), str(tmp_path / ("x" * length)), SUFFIXES)


def test_links_that_lead_nowhere_and_files_that_are_none_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / "b.csv").symlink_to(tmp_path / "gone.csv")
    os.mkfifo(tmp_path / "c.csv")
    found = list_files(pafs.LocalFileSystem(), str(tmp_path), SUFFIXES)
    assert [info.base_name for info in found.files] == ["a.csv"]
    assert found.left_out == ["b.csv", "c.csv"]


def test_a_name_that_is_no_text_is_named_or_refused(tmp_path):
    (tmp_path / "a.csv").write_text("x")
    (tmp_path / os.fsdecode(b"\xff.txt")).write_text("x")
    assert list_files(pafs.LocalFileSystem(), str(tmp_path), SUFFIXES).left_out == ["�.txt"]
    (tmp_path / os.fsdecode(b"\xff.csv")).write_text("x")
    with pytest.raises(InvalidDataError, match="no UTF-8: rename it"):
        list_files(pafs.LocalFileSystem(), str(tmp_path), SUFFIXES)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("in/a.csv", {}),
        ("in/day=2020-01-01/a.csv", {"day": "2020-01-01"}),
        ("in/y=1/x/m=02/k=v.csv", {"y": "1", "m": "02"}),
        ("in/city=Z%C3%BCrich%20%2F%20West/a.csv", {"city": "Zürich / West"}),
        ("in/a%3Db=c=d/a.csv", {"a=b": "c=d"}),
        ("in/p=__HIVE_DEFAULT_PARTITION__/a.csv", {"p": None}),
        ("in/p=/a.csv", {"p": None}),
        ("in/p=__EMPTY__/q=%5F_HIVE_DEFAULT_PARTITION__/a.csv", {"p": "", "q": "__HIVE_DEFAULT_PARTITION__"}),
        ("in/=x/a.csv", {}),
        ("in/p=1+2/a.csv", {"p": "1+2"}),
    ],
)
@pytest.mark.parametrize("start", ["", "./", "/data/k=1/"])
def test_folders_give_columns_below_the_input_only(path, expected, start):
    assert read_partitions(f"{start}in", f"{start}{path}") == expected
    assert read_partitions(f"{start}{path}", f"{start}{path}") == {}

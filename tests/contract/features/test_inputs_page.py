"""docs/inputs.md against the code: each line of its rules, sent through every way a row can come."""

from __future__ import annotations

import asyncio
import io
import json
import math
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import numpy as np
import orjson
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest

from batch.storage.text_rows import TextRows, read_csv_header, read_json_schema
from batch.transforms.columns import Columns
from batch.transforms.results import build_rejected
from serve_app.errors import InvalidDataError
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.input_counts import KINDS, count_inputs
from serve_app.features.core.specs import PURCHASE_FEATURES, UNKNOWN_CLASS, FeatureSpec, arrow_schema
from serve_app.http.app import create_app
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.models.core.manifest import Manifest
from serve_app.runtime.microbatch import BatchLimits
from serve_app.scoring.service.version_scorer import VersionScorer
from tests.testing_kit import VOCABULARIES, LocalEncoder, LocalModel, MemoryAccessLog, MemoryMeter, make_traffic

pytestmark = pytest.mark.contract

PAGE = Path(__file__).parents[3] / "docs" / "inputs.md"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
ABSENT = object()
NAMED = object()
"""Absent, and named by the query's `defaults`; a job's mapping names what is absent anyway."""
NAN, INF = math.nan, math.inf

PETS = (
    FeatureSpec("weight", "numeric", "kg", on_null="nan"),
    FeatureSpec("size", "numeric", "cm", above=0, maximum=300),
    FeatureSpec("legs", "numeric", "legs", on_null="fill", fill=4.0, minimum=0, maximum=100, integer=True),
    FeatureSpec("city", "categorical", "name", on_null="fill", fill="bonn", on_unseen="reject"),
    FeatureSpec("colour", "categorical", "name"),
    FeatureSpec("breed", "categorical", "name", form="native_string", on_null="fill", fill="none"),
    FeatureSpec("tag", "categorical", "number", on_null="fill", fill="nan", on_unseen="reject"),
    FeatureSpec("coat", "categorical", "name", on_null="fill", fill="nan"),
)
PET_CLASSES = {
    "city": ["bonn", "trier"],
    "colour": ["black", "white", UNKNOWN_CLASS],
    "breed": ["none", "pug", UNKNOWN_CLASS],
    "tag": ["1", "5", "nan"],
    "coat": ["long", "nan", UNKNOWN_CLASS],
}
GOOD_PET: dict[str, Any] = {
    "weight": 3.5,
    "size": 40,
    "legs": 4,
    "city": "trier",
    "colour": "white",
    "breed": "pug",
    "tag": 1,
    "coat": "long",
}
GOOD_ROW: dict[str, Any] = {
    **{
        name: EXAMPLE_REQUEST[name] for name in ("brand", "category_code", "price", "hour", "day_of_week", "is_weekend")
    },
    "total_events_x": 3,
    "avg_price": 12.5,
    "conversion_rate": 0.5,
}

INPUTS: dict[str, tuple[str, ...]] = {
    "a required number": ("price", "hour", "size"),
    "a flag": ("is_weekend",),
    "a number with a default": ("total_events_x", "avg_price", "conversion_rate", "legs"),
    "another number": ("weight",),
    "a category": ("brand", "category_code"),
    "an imported category": ("coat",),
    "a required category": ("colour",),
    "a closed category": ("city",),
    "a category as text": ("breed",),
    "a category of whole numbers": ("tag",),
}
VALUES: dict[str, tuple[Any, ...]] = {
    "not there": (ABSENT,),
    "not there, named by defaults": (NAMED,),
    "null": (None,),
    "text, a list or an object": ("cheap", "5", "null", "", [1], {"a": 1}),
    "true or false": (True, False),
    "NaN or infinite": (NAN, INF, -INF, 1e300),
    "NaN": (NAN,),
    "infinite": (INF, -INF, 1e300),
    "not in the vocabulary": ("zebra", "null", "NULL"),
    "empty text": ("",),
    "a whole number": (7, -1, 5.0, -0.0, 9007199254740991.0),
    "5, 5.0 or their text": (5, 5.0, "5", "5.0"),
    "a float of 2^53 or more": (9007199254740992.0, 1e300),
    "a fraction, a boolean, a list or an object": (1.5, True, ["pug"], {}),
}
BEYOND: dict[str, tuple[float, ...]] = {
    "price": (0, -1, 1e-46),
    "hour": (24, -1, 12.5),
    "size": (0, 301),
    "is_weekend": (2, -1, 0.5),
    "total_events_x": (-1,),
    "avg_price": (-0.5,),
    "conversion_rate": (1.0001, -0.1),
    "legs": (101, -1, 4.5),
}


class Line(NamedTuple):
    """One line of the page's rules."""

    what: str
    value: str
    verdict: str
    seen: str
    kind: str


def read_rules() -> list[Line]:
    section = PAGE.read_text("utf-8").partition("## The rules")[2].partition("\nFine print")[0]
    lines = [line.strip()[1:-1].split("|") for line in section.splitlines() if line.startswith("|")]
    return [Line(*(part.strip(" `") for part in parts)) for parts in lines[2:]]


RULES = read_rules()


def values_of(line: Line, name: str) -> tuple[Any, ...]:
    return BEYOND[name] if line.value == "outside its bounds" else VALUES[line.value]


def is_absent(value: Any) -> bool:
    return value is ABSENT or value is NAMED


CASES = [
    pytest.param(line, name, value, id=f"{name}={line.value if is_absent(value) else repr(value)}")
    for line in RULES
    for name in INPUTS[line.what]
    for value in values_of(line, name)
]


class PetModel:
    """A model that tells apart every matrix and every string."""

    def predict(self, matrix: np.ndarray, strings: pa.RecordBatch | None = None) -> np.ndarray:
        weights = np.array([3.0, 5.0, 7.0, 11.0, 13.0, 0.0, 17.0, 19.0])
        scores = np.where(np.isnan(matrix), -99.0, matrix).astype(np.float64) @ weights
        scores += [sum(text.encode()) for text in strings.column("breed").to_pylist()]
        return 1 / (1 + np.exp(-scores / 1000))


class Seen(NamedTuple):
    """What became of a row."""

    verdict: str
    score: float | None
    kinds: list[str]


class World:
    """A service over local replicas, and what was counted since `fresh`."""

    def __init__(self, runner: asyncio.Runner, name: str, model: Any) -> None:
        self.name, self.model, self._runner = name, model, runner
        self.features = PETS if name == "pets" else PURCHASE_FEATURES
        self.good = GOOD_PET if name == "pets" else GOOD_ROW
        self.encoder = FeatureEncoder(self.features, PET_CLASSES if name == "pets" else VOCABULARIES)
        self.local = LocalEncoder(self.encoder)
        self.meter = MemoryMeter()
        manifest = Manifest(self.name, "2026-01-01T00:00:00Z", "binary", self.features)
        scorer = VersionScorer(1, manifest, self.local, LocalModel(self.model), BatchLimits())
        scoring = runner.run(make_traffic(scorer))
        app = create_app(scoring, MemoryAccessLog(), timeout_s=5.0, meter=self.meter)
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self._client = httpx.AsyncClient(transport=transport, base_url="http://shop")

    def fresh(self) -> World:
        """Forget what was counted."""
        for kept in (self.local.batches, self.meter.problems, self.meter.ignored):
            kept.clear()
        return self

    def post(self, path: str, body: bytes, media: str, name: str = "", value: Any = None) -> httpx.Response:
        path += f"?defaults={name}" if value is NAMED else ""
        return self._runner.run(self._client.post(path, content=body, headers={"content-type": media}))

    def kinds(self, name: str) -> list[str]:
        """What the Encoders counted of a feature."""
        found = count_inputs([f.name for f in self.features], [self.encoder.encode(b) for b in self.local.batches])
        return sorted(kind for feature, kind in found.values if feature == name)

    def judge(self, answer: httpx.Response, pick: Callable[[Any], float | None], name: str) -> Seen:
        """Read an answer; a request that was refused before an Encoder saw it must have counted as a problem."""
        assert answer.status_code in {200, 422}, answer.text
        score = pick(answer.json()) if answer.status_code == 200 else None
        kinds = self.kinds(name)
        if answer.status_code == 422:
            ((_, code),) = self.meter.problems
            assert code in {"invalid-row", "invalid-data"}
            assert name in answer.text
            kinds = kinds or ["problem"]
        else:
            assert self.meter.problems == []
        return Seen("rejected" if score is None else "scored", score, kinds)


class Worlds(NamedTuple):
    """The services of both models: an application takes long to build, and keeps nothing of a request."""

    purchase: World
    pets: World

    def of(self, name: str) -> World:
        """The service that has a feature, its counts forgotten."""
        return (self.pets if name in GOOD_PET else self.purchase).fresh()


@pytest.fixture(scope="module")
def worlds(package) -> Iterator[Worlds]:
    with asyncio.Runner() as runner:
        yield Worlds(World(runner, "purchase", package.model), World(runner, "pets", PetModel()))


def put(row: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    return {k: v for k, v in {**row, name: value}.items() if not is_absent(v)}


def typed(rows: list[dict[str, Any]]) -> pa.Table:
    return pa.table({name: pa.array([row[name] for row in rows]) for name in rows[0]})


def dump(value: Any) -> bytes:
    """JSON as Python writes it: orjson would write null for what is no finite number."""
    return json.dumps(value).encode()


def by_encoder(world: World, name: str, value: Any) -> Seen:
    batch = typed([put(world.good, name, value)]).combine_chunks().to_batches()[0]
    try:
        encoded = world.encoder.encode(batch)
    except InvalidDataError:
        return Seen("rejected", None, ["problem"])
    world.local.batches.append(batch)
    score = world.model.predict(*encoded.for_model)
    return Seen("scored" if len(score) else "rejected", float(score[0]) if len(score) else None, world.kinds(name))


def by_row(world: World, name: str, value: Any) -> Seen:
    ids = {k: EXAMPLE_REQUEST[k] for k in ("user_id", "session_id", "product_id")}
    body = dump({**ids, **put(world.good, name, value)})
    answer = world.post("/predict_purchase", body, "application/json", name, value)
    return world.judge(answer, lambda a: a["purchase_probability"], name)


def by_records(world: World, name: str, value: Any) -> Seen:
    rows = [put(world.good, name, value if is_absent(value) else world.good[name]) for _ in range(3)]
    rows[1] = put(world.good, name, value)
    answer = world.post("/invocations", dump({"dataframe_records": rows}), "application/json", name, value)
    return world.judge(answer, lambda a: a["predictions"][1], name)


def by_csv(world: World, name: str, value: Any) -> Seen:
    body = csv_body(world, name, value)
    return world.judge(world.post("/invocations", body, "text/csv", name, value), lambda a: a["predictions"][1], name)


def csv_body(world: World, name: str, value: Any) -> bytes:
    columns = [n for n in world.good if not (n == name and is_absent(value))]
    lines = [[cell(world.good[n]) for n in columns] for _ in range(3)]
    if not is_absent(value):
        lines[1][columns.index(name)] = cell(value)
    return ("\n".join(",".join(line) for line in [columns, *lines]) + "\n").encode()


def by_job_csv(world: World, name: str, value: Any) -> Seen:
    return by_text(world, name, "csv", csv_body(world, name, value))


def by_job_json(world: World, name: str, value: Any) -> Seen:
    rows = [world.good, put(world.good, name, value), world.good]
    return by_text(world, name, "json", "".join(json.dumps(row) + "\n" for row in rows).encode())


def by_text(world: World, name: str, kind: str, body: bytes) -> Seen:
    """What a batch job reads of a text file, scored as a job does."""
    specs = {spec.name: spec for spec in world.features}
    types = {f.name: f.type for f in arrow_schema(tuple(world.features))}
    system = pafs._MockFileSystem()
    with system.open_output_stream("rows") as sink:
        sink.write(body)
    schema = (read_csv_header if kind == "csv" else read_json_schema)(system, "rows", types)
    columns = Columns(tuple((each, each) for each in schema.names), ())
    ((rows, unread),) = TextRows(system, "rows", kind, schema, specs).blocks()
    assert unread == []
    batch = columns.select_features(rows)
    try:
        encoded = world.encoder.encode(batch)
    except InvalidDataError:
        return Seen("rejected", None, ["problem"])
    world.local.batches.append(batch)
    scores = dict(zip(encoded.rows.tolist(), world.model.predict(*encoded.for_model).tolist(), strict=True))
    if encoded.errors:
        (rejected, *_) = build_rejected("rows", rows, encoded.errors, np.arange(3)).to_pylist()
        assert rejected["column"] == name
        assert "__" not in rejected["content"]
    return Seen("scored" if 1 in scores else "rejected", scores.get(1), world.kinds(name))


def cell(value: Any) -> str:
    if value is None:
        return ""
    return f'"{value}"' if isinstance(value, str) and value in {"", "null"} else str(value)


def by_arrow(world: World, name: str, value: Any) -> Seen:
    table, sink = typed([put(world.good, name, value)] * 3), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    answer = world.post("/invocations", sink.getvalue().to_pybytes(), ARROW, name, value)
    return world.judge(answer, lambda a: a["predictions"][1], name)


def by_parquet(world: World, name: str, value: Any) -> Seen:
    sink = io.BytesIO()
    pq.write_table(typed([put(world.good, name, value)] * 3), sink)
    answer = world.post("/invocations", sink.getvalue(), PARQUET, name, value)
    return world.judge(answer, lambda a: a["predictions"][1], name)


def by_tensors(world: World, name: str, value: Any) -> Seen:
    inputs = []
    for spec in world.features:
        if spec.name not in world.good or (spec.name == name and is_absent(value)):
            continue
        data = [world.good[spec.name]] * 3
        if spec.name == name:
            data[1] = value
        datatype = "BYTES" if spec.kind == "categorical" else "FP64"
        inputs.append({"name": spec.name, "datatype": datatype, "shape": [3], "data": data})
    path, body = f"/v2/models/{world.name}/infer", dump({"inputs": inputs})
    answer = world.post(path, body, "application/json", name, value)
    return world.judge(answer, lambda a: {o["name"]: o for o in a["outputs"]}["probability"]["data"][1], name)


WAYS = {
    "the encoder": by_encoder,
    "/predict_purchase": by_row,
    "/v2": by_tensors,
    "/invocations JSON": by_records,
    "/invocations CSV": by_csv,
    "/invocations Arrow": by_arrow,
    "/invocations Parquet": by_parquet,
    "a job's CSV": by_job_csv,
    "a job's JSON lines": by_job_json,
}


JSON_WAYS = ("/predict_purchase", "/v2", "/invocations JSON", "a job's JSON lines")


def can_say(way: str, line: Line, name: str, value: Any) -> bool:
    """Whether a form can express a value, and a route knows the feature."""
    if way == "/predict_purchase" and name in GOOD_PET:
        return False
    if value is ABSENT and not line.kind and (way == "the encoder" or way.startswith("a job's")):
        return False  # they get what the Gateway or the job's own check let pass
    is_float = isinstance(value, float)
    if way in JSON_WAYS:  # where NaN is null, see below
        return not (is_float and math.isnan(value))
    if way in {"/invocations CSV", "a job's CSV"}:
        number_text = "number" in line.what and value in ("5", "")  # CSV has nothing but text
        category = "categor" in line.what and is_float and line.value != "5, 5.0 or their text"
        category |= "categor" in line.what and line.value.startswith("a fraction")
        return not (number_text or category or isinstance(value, (list, dict)))
    return not (way == "/invocations Parquet" and value == {})  # Parquet has no struct without members


@pytest.mark.parametrize(("line", "name", "value"), CASES)
def test_a_value_meets_one_rule_whichever_way_it_comes(worlds, line, name, value):
    seen = {way: send(worlds.of(name), name, value) for way, send in WAYS.items() if can_say(way, line, name, value)}
    assert len(seen) >= 3
    assert "the encoder" in seen or (value is ABSENT and line.verdict == "rejected")
    assert {way: found.verdict for way, found in seen.items()} == dict.fromkeys(seen, line.verdict)
    assert len({found.score for found in seen.values()}) == 1, seen
    expected = [line.kind] if line.kind else []
    for way, found in seen.items():
        # what the Gateway refuses as a whole no Encoder sees
        assert found.kinds == expected or (line.verdict == "rejected" and found.kinds == ["problem"]), way


@pytest.mark.parametrize("name", [name for names in INPUTS.values() for name in names])
def test_nan_in_json_is_null_whichever_way_it_comes(worlds, name):
    for way in JSON_WAYS:
        if way != "/predict_purchase" or name not in GOOD_PET:
            assert WAYS[way](worlds.of(name), name, NAN) == WAYS[way](worlds.of(name), name, None)


def test_the_page_names_every_kind_of_input_value_and_count():
    assert {line.what for line in RULES} == set(INPUTS)
    assert {line.value for line in RULES} == {*VALUES, "outside its bounds"}
    assert {line.kind for line in RULES} == {*KINDS, ""}
    assert {line.verdict for line in RULES} == {"scored", "rejected"}


def test_every_feature_of_the_purchase_model_is_of_one_kind_the_page_describes():
    text = PAGE.read_text("utf-8").partition("## Kinds of inputs")[2].partition("## The rules")[0]
    named = set(re.findall(r"`(\w+)`", text))
    assert {f.name for f in PURCHASE_FEATURES if f.group == "row"} <= named
    assert sum(f.on_null in {"fill", "fill_from"} and f.kind == "numeric" for f in PURCHASE_FEATURES) == 16


def test_which_values_reach_an_encoder_and_which_the_gateway_refuses_first(worlds):
    """As the page says under "How it is counted"."""
    found = {}
    for way, send in WAYS.items():
        world = worlds.of("price")
        found[way] = (send(world, "price", 0).kinds, list(world.meter.problems))
    rejected = ["rejected_range"]
    assert found == {
        "the encoder": (rejected, []),
        "/predict_purchase": (["problem"], [("/predict_purchase", "invalid-row")]),
        "/v2": (rejected, []),
        "/invocations JSON": (rejected, []),
        "/invocations CSV": (rejected, []),
        "/invocations Arrow": (rejected, [("/invocations", "invalid-row")]),
        "/invocations Parquet": (rejected, [("/invocations", "invalid-row")]),
        "a job's CSV": (rejected, []),
        "a job's JSON lines": (rejected, []),
    }
    for way, code in {"/invocations Arrow": "invalid-data", "/invocations JSON": ""}.items():
        world = worlds.of("price")
        WAYS[way](world, "price", "cheap")
        assert world.meter.problems == ([("/invocations", code)] if code else [])
    world = worlds.of("price")
    by_tensors(world, "price", ABSENT)
    assert world.meter.problems == [("/v2/models/{model}/infer", "invalid-row")]


def test_columns_that_no_one_reads_are_ignored_and_counted_but_by_v2(worlds):
    rows = [{**GOOD_ROW, "shoe_size": 42, "x": None}]
    table = typed(rows)
    sink, parquet = pa.BufferOutputStream(), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    pq.write_table(table, parquet)
    csv = ",".join([*GOOD_ROW, "shoe_size", "x"]) + "\n" + ",".join([*map(str, GOOD_ROW.values()), "42", ""])
    split = {"columns": list(rows[0]), "data": [list(rows[0].values())]}
    bodies = [
        (orjson.dumps({"dataframe_records": rows}), "application/json"),
        (orjson.dumps({"dataframe_split": split}), "application/json"),
        (orjson.dumps({"inputs": {name: [value] for name, value in rows[0].items()}}), "application/json"),
        (csv.encode(), "text/csv"),
        (csv.replace("\n", ",y\n").encode() + b",y\nmore" + b",1" * 11, "text/csv"),
        (sink.getvalue().to_pybytes(), ARROW),
        (parquet.getvalue(), PARQUET),
    ]
    expected = by_encoder(worlds.of("price"), "price", GOOD_ROW["price"]).score
    for body, media in bodies:
        world = worlds.of("price")
        answer = world.post("/invocations", body, media)
        assert answer.status_code == 200, answer.text
        assert answer.json()["predictions"][0] == expected
        ((route, n),) = world.meter.ignored
        assert (route, n) == ("/invocations", 3 if b",y" in body else 2)
    tensor = {"name": "shoe_size", "datatype": "FP64", "shape": [1], "data": [42]}
    world = worlds.of("price")
    answer = world.post("/v2/models/purchase/infer", orjson.dumps({"inputs": [tensor]}), "application/json")
    assert answer.status_code == 422
    assert world.meter.problems == [("/v2/models/{model}/infer", "invalid-data")]


def test_in_csv_only_an_empty_field_is_null(worlds):
    header = "price,hour,day_of_week,is_weekend,brand,total_events_x\n"
    lines = ["5,3,5,0,null,", '5,3,5,0,"",""', "5,3,5,0,,", "5,3,5,0,NA,NA", "5,3,5,0,nan,nan"]
    world = worlds.of("price")
    answer = world.post("/invocations", (header + "\n".join(lines)).encode(), "text/csv").json()
    assert [(e["index"], e["pointer"]) for e in answer["errors"]] == [
        (3, "/3/total_events_x"),
        (4, "/4/total_events_x"),
    ]
    assert "got 'NA'" in answer["errors"][0]["detail"]
    (batch,) = world.local.batches
    assert batch.column("brand").to_pylist() == ["null", "", None, "NA", "nan"]
    assert batch.column("total_events_x").null_count == 4
    assert answer["predictions"][0] == answer["predictions"][1] != answer["predictions"][2]


@pytest.mark.parametrize(
    ("members", "detail"),
    [
        ({"price": 0}, "must be a finite number above 0, got 0"),
        ({"price": None}, "is required and must be a finite number above 0, got null"),
        ({"price": ABSENT}, "is required and must be a finite number above 0"),
        ({"price": True}, "must be a finite number above 0, got true"),
        ({"hour": 24}, "must be a whole number from 0 to 23, got 24"),
        ({"is_weekend": 2}, "must be 0, 1, true or false, got 2"),
        ({"total_events_x": "many"}, "must be a finite number of at least 0, got 'many'"),
        ({"brand": ["acme"]}, "must be a string of at most 512 characters, a whole number, or null, got a list"),
    ],
)
def test_what_is_said_of_a_bad_member_is_the_rule_and_the_value(worlds, members, detail):
    ((name, value),) = members.items()
    ids = {k: EXAMPLE_REQUEST[k] for k in ("user_id", "session_id", "product_id")}
    world = worlds.of("price")
    answer = world.post("/predict_purchase", orjson.dumps({**ids, **put(GOOD_ROW, name, value)}), "application/json")
    assert answer.json()["errors"] == [{"pointer": f"/{name}", "detail": detail}]

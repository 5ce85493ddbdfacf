"""A log takes an event exactly where ``POST /v1/events`` takes it, and reads the same of it, whatever it looks like.

Left out is what depends on the clock (too far ahead, past retention), and an event without a time, which is now.
"""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime
from decimal import Decimal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serve_app.errors import BadRequestError
from serve_app.events.adapters.csv_faults import NULLS
from serve_app.events.adapters.log_files import EventLog
from serve_app.events.core.event_rows import EVENT_TYPES, clean_events, price_cents
from serve_app.features.core.event_times import parse_time, read_times
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS
from serve_app.history.service.live_history import LiveHistory, cents_of
from serve_app.http.bodies import ARROW, JSON, NDJSON
from serve_app.http.events.event_bodies import parse_events
from serve_app.privacy.pseudonyms import Pseudonyms
from tests.testing_kit.history.memory_states import MemoryStateStore

NAMES = (*PUBLISHED_COLUMNS, "event_id")
ID_NAMES = ("user_id", "user_session", "product_id", "category_id", "event_id")
END_OF_DAYS_S = 300_000_000_000
"""A clock that no event is ahead of."""

TEXT_KINDS = (pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string()))
TEXTS = st.one_of(
    st.sampled_from(["", " ", "0", "-5", "007", "5.0", "NULL", "nil", 'a"b', "a,b", "a\nb", "é" * 512, "é" * 513]),
    st.integers(500, 520).map("x".__mul__),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=9),
)
DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**30), max_value=10**30)
TYPED_IDS = st.one_of(
    st.tuples(TEXTS, st.sampled_from(TEXT_KINDS)),
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.just(pa.int64())),
    st.tuples(st.integers(0, 2**64 - 1), st.just(pa.uint64())),
    st.tuples(st.sampled_from([2**63 - 1, 2**63]), st.just(pa.uint64())),
    st.tuples(st.integers(-128, 127), st.just(pa.int8())),
    st.tuples(st.one_of(st.floats(), st.integers(-(2**54), 2**54).map(float)), st.just(pa.float64())),
    st.tuples(st.one_of(DECIMALS, st.integers(-(10**30), 10**30).map(Decimal)), st.just(pa.decimal128(38, 2))),
    st.tuples(st.integers(-(10**37), 10**37).map(Decimal), st.just(pa.decimal128(38, 0))),
    st.tuples(st.uuids().map(lambda u: u.bytes), st.just(pa.uuid())),
    st.tuples(st.none(), st.sampled_from([pa.null(), pa.string(), pa.int64(), pa.float64()])),
    st.tuples(st.booleans(), st.just(pa.bool_())),
)
TYPED_LABELS = st.one_of(
    TYPED_IDS,
    st.tuples(st.just(1), st.sampled_from([pa.timestamp("s"), pa.date32()])),
)
"""Lists, structs and binary are left out: a log refuses them, to lose no column without a word."""
ABSENT = ("brand", "category_code", "category_id", "event_id")
EDGES = (0.0, -0.0, 1e-300, 5e-324, 2.0**-150, 2.0**-149, 0.004, 0.005, 1e8, 1e8 + 1, 1e300)
PRICES = st.one_of(st.none(), st.sampled_from(EDGES), st.floats(), st.floats(0.01, 1e5))
TYPED_PRICES = st.one_of(
    st.tuples(PRICES, st.just(pa.float64())),
    st.tuples(st.integers(-(2**63), 2**63 - 1), st.just(pa.int64())),
    st.tuples(st.floats(width=32), st.just(pa.float32())),
    st.tuples(DECIMALS, st.just(pa.decimal128(38, 2))),
    st.tuples(st.just("12.5"), st.just(pa.string())),
    st.tuples(st.none(), st.just(pa.null())),
)
KINDS = st.one_of(st.sampled_from(EVENT_TYPES), st.sampled_from(["wish", "View", " view", "", None]))
FORMS = (
    "%Y-%m-%d %H:%M:%S UTC", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d",
    "%Y-%m-%d %H:%M:%S +00:00", "%Y-%m-%dT%H:%M:%S+0530", "%Y-%m-%dT%H:%M:%S-03", "%Y-%m-%d %H:%M:%S.%f UTC",
    "%Y-%m-%dT%H:%M:%S.5 +02:00", "%Y-%m-%dT%H:%M:%S.1234567Z", "%Y-%m-%dT%H:%M:%S.123456789", "%Y-%m-%dT%H:%M:%S,5Z",
    "%Y-%m-%dt%H:%M:%Sz", "%G-W%V-%uT%H:%M:%SZ", "%d.%m.%Y %H:%M", "%Y/%m/%d", "%Y%m%d", "%H:%M",
    "%Y-%m-%d %H:%M:%S CET",
)  # fmt: skip
MOMENTS = st.one_of(
    st.datetimes(datetime(1960, 1, 1), datetime(2110, 1, 1)),  # noqa: DTZ001 - hypothesis wants them without a zone
    st.sampled_from(
        [datetime(*day, *time, tzinfo=None)  # noqa: DTZ001
         for day in ((1, 1, 1), (1969, 12, 31), (1970, 1, 1), (2099, 12, 31), (2100, 1, 1), (9999, 12, 31))
         for time in ((0, 0, 0), (23, 59, 59))]
    ),
)  # fmt: skip
TIME_TEXTS = st.one_of(
    st.builds(lambda at, form: at.strftime(form.replace("%Y", f"{at.year:04d}")), MOMENTS, st.sampled_from(FORMS)),
    st.text(max_size=8),
    st.sampled_from(
        ["yesterday", "1570000000", "2019-13-01 00:00:00 UTC", "0000-00-00 00:00:00", "2019-10-01T24:00:00Z"]
    ),
)
TYPED_TIMES = st.one_of(
    st.tuples(TIME_TEXTS, st.sampled_from(TEXT_KINDS)),
    st.tuples(MOMENTS, st.sampled_from([pa.timestamp("us"), pa.timestamp("ms", "UTC"), pa.date32()])),
    st.tuples(st.integers(-(2**40), 2**40), st.just(pa.timestamp("s"))),
    st.tuples(st.integers(-(2**62), 2**62), st.just(pa.timestamp("ns"))),
    st.tuples(st.integers(0, 2**33), st.just(pa.int64())),
)
COMMON = {"category_code": ("a.b", pa.string()), "brand": ("acme", pa.string())}
WHOLE = {
    "user_id": ("u", pa.string()), "user_session": ("s", pa.string()), "product_id": ("p", pa.string()),
    "category_id": ("c", pa.string()), "event_id": ("e", pa.string()), "event_type": ("view", pa.string()),
    "event_time": ("2019-10-01 00:00:00 UTC", pa.string()), "price": (1.5, pa.float64()), **COMMON,
}  # fmt: skip


@st.composite
def odd_events(draw):
    """Draw an event of which one or two members are odd, by name, as (value, Arrow type)."""
    odd = dict.fromkeys(ID_NAMES, TYPED_IDS)
    odd |= dict.fromkeys(("brand", "category_code"), TYPED_LABELS)
    odd |= {"price": TYPED_PRICES, "event_time": TYPED_TIMES, "event_type": st.tuples(KINDS, st.just(pa.string()))}
    chosen = draw(st.lists(st.sampled_from(sorted(odd)), min_size=1, max_size=2, unique=True))
    absent = draw(st.sets(st.sampled_from(ABSENT), max_size=2))
    event = WHOLE | {name: draw(odd[name]) for name in chosen}
    return {name: event[name] for name in event if name not in absent}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


def as_table(event):
    return pa.table({name: pa.array([value], pa.string()).cast(kind) if pa.types.is_dictionary(kind) else
                     pa.array([value], kind) for name, (value, kind) in event.items()})  # fmt: skip


def take_from_log(path):
    """Return what a log's only event says, None where it is none or the file is refused."""
    try:
        (batch,) = [clean_events(batch)[0] for batch in EventLog(path).batches()]
    except BadRequestError:
        return None
    if not batch.num_rows:
        return None
    row = batch.to_pylist()[0]
    ids = tuple(None if row.get(name) is None else str(row[name]) for name in ID_NAMES)
    cents = int(price_cents(batch.column("price").to_numpy())[0])
    return ids, EVENT_TYPES[row["event_type"]], row["event_time"], cents


def take_live(media, body):
    """Return what the only event of a body says, None where it is none or the body is refused."""
    try:
        parsed = parse_events(media, body)
    except BadRequestError:
        return None
    history = LiveHistory(MemoryStateStore(), Pseudonyms(b"k" * 32), lambda: END_OF_DAYS_S, retention_s=None)
    outcomes = history.record(parsed.events)
    if [outcome.status for outcome in outcomes] != ["recorded"]:
        assert {outcome.status for outcome in outcomes} <= {"dropped"}
        return None
    (event,) = parsed.events
    ids = (event.user_id, event.session_id, event.product_id, event.category_id or None, event.event_id or None)
    return ids, event.event_type, event.time_s, cents_of(event.price)


def write_stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@settings(max_examples=250, deadline=None)
@given(odd_events())
def test_a_parquet_log_takes_what_an_arrow_body_takes(folder, event):
    table = as_table(event)
    path = folder / "log.parquet"
    pq.write_table(table, path)
    assert take_from_log(path) == take_live(ARROW, write_stream(table))


JSON_IDS = st.one_of(
    TEXTS,
    st.integers(-(2**63), 2**64 - 1),
    st.sampled_from([-1, 0, 2**63 - 1, 2**63]),
    st.floats(allow_infinity=False),
    st.none(),
)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ID_NAMES), JSON_IDS, PRICES, KINDS, TIME_TEXTS, st.sampled_from([JSON, NDJSON]))
def test_a_parquet_log_takes_what_a_json_body_takes(folder, name, value, price, kind, time, media):
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), type(None): pa.null()}
    event = WHOLE | {"price": (price, pa.float64()), "event_type": (kind, pa.string())}
    kind_of = pa.uint64() if type(value) is int and value >= 2**63 else kinds[type(value)]
    event |= {name: (value, kind_of), "event_time": (time, pa.string())}
    path = folder / "log.parquet"
    pq.write_table(as_table(event), path)
    body = orjson.dumps({name: value for name, (value, _) in event.items()})
    assert take_from_log(path) == take_live(media, body)


CSV_TEXTS = TEXTS.filter(lambda text: text not in NULLS)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(ID_NAMES), CSV_TEXTS | st.none(), PRICES, KINDS, TIME_TEXTS, st.booleans())
def test_a_csv_log_takes_what_a_json_body_takes(folder, name, value, price, kind, time, is_quoted):
    event = {key: said for key, (said, _) in WHOLE.items()}
    event |= {name: value, "price": price, "event_type": kind, "event_time": time}
    path = folder / "log.csv"
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, quoting=csv.QUOTE_ALL if is_quoted else csv.QUOTE_MINIMAL, lineterminator="\n")
        writer.writerows([NAMES, [event[key] for key in NAMES]])
    assert take_from_log(path) == take_live(JSON, orjson.dumps(event))


@settings(max_examples=150, deadline=None)
@given(st.lists(TIME_TEXTS | st.none(), max_size=6))
def test_a_column_of_mixed_times_is_read_as_each_of_them(texts):
    expected, bad = [], []
    for row, text in enumerate(texts):
        try:
            expected.append(None if text is None else parse_time(text))
        except ValueError:
            expected.append(None)
            bad.append(row)
    times, found = read_times(pa.array(texts, pa.string()))
    assert (times.to_pylist(), found) == (expected, bad)


def test_all_forms_that_common_writers_have_are_the_same_moment():
    moment = int(datetime(2019, 10, 1, 10, 0, tzinfo=UTC).timestamp())
    for text in (
        "2019-10-01 10:00:00 UTC", "2019-10-01T10:00:00Z", "2019-10-01T10:00:00", "2019-10-01 10:00:00+00",
        "2019-10-01 10:00:00 +00:00", "2019-10-01 10:00:00.5 +0000", "2019-10-01T12:00:00.123456789+02:00",
        "2019-10-01T10:00:00.1234567Z", "2019-10-01 10:00:00.123 UTC", "2019-10-01t10:00:00z", "2019-10-01 10:00",
    ):  # fmt: skip
        assert parse_time(text) == moment, text
        assert read_times(pa.array([text, "2019-10-01 10:00:00 UTC"]))[0].to_pylist() == [moment] * 2

"""Bodies of ``POST /v1/events`` as real writers make them."""

from __future__ import annotations

import io
import uuid
from decimal import Decimal

import orjson
import pyarrow as pa
import pytest

from serve_app.errors import InvalidDataError
from serve_app.http.bodies import ARROW, JSON, NDJSON
from serve_app.http.events.event_bodies import parse_events

pytestmark = pytest.mark.unit

EVENT = {"event_type": "view", "product_id": "p", "price": 10.0, "user_id": "u", "user_session": "s"}
BOM = b"\xef\xbb\xbf"


def stream(**columns):
    table = pa.table({name: [value] for name, value in EVENT.items()} | columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


@pytest.mark.parametrize("media", [JSON, NDJSON])
def test_a_byte_order_mark_loses_no_event(media):
    line = orjson.dumps(EVENT)
    body = BOM + (b"\n".join([line, line]) if media == NDJSON else orjson.dumps([EVENT, EVENT]))
    parsed = parse_events(media, body)
    assert (len(parsed.events), parsed.rejected) == (2, [])


@pytest.mark.parametrize("wrapper", [{"events": [EVENT]}, {"records": [EVENT], "n": 1}, {"foo": 1}, {}])
@pytest.mark.parametrize("media", [JSON, NDJSON])
def test_an_object_that_is_no_event_is_rejected_and_says_what_to_send(media, wrapper):
    parsed = parse_events(media, orjson.dumps(wrapper))
    assert parsed.events == []
    ((index, why),) = parsed.rejected
    assert index == 0
    assert "is no event: an event has event_type, product_id" in why
    lists = [name for name, value in wrapper.items() if isinstance(value, list)]
    assert all(f"send the list in '{name}' itself" in why for name in lists)


def test_a_table_without_any_column_of_an_event_is_refused():
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, pa.schema([("foo", pa.int64())])) as writer:
        writer.write_table(pa.table({"foo": [1]}))
    with pytest.raises(InvalidDataError, match="no column of an event"):
        parse_events(ARROW, sink.getvalue())


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pa.array(["u"], pa.string_view()), "u"),
        (pa.array(["u"], pa.large_string()), "u"),
        (pa.DictionaryArray.from_arrays(pa.array([0]), pa.array(["u"], pa.string_view())), "u"),
        (pa.array([7.0]), "7"),
        (pa.array([2**63 - 1], pa.uint64()), str(2**63 - 1)),
        (pa.array([Decimal(541312140)], pa.decimal128(38, 0)), "541312140"),
        (pa.array([uuid.UUID(int=1).bytes], pa.uuid()), str(uuid.UUID(int=1))),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
@pytest.mark.parametrize("name", ["user_id", "user_session", "product_id", "category_id", "event_id"])
def test_ids_of_every_arrow_type_are_text(name, column, text):
    (event,) = parse_events(ARROW, stream(**{name: column})).events
    assert getattr(event, "session_id" if name == "user_session" else name) == text


def test_a_whole_float_is_an_id_in_json_and_a_fraction_is_none():
    parsed = parse_events(JSON, orjson.dumps([EVENT | {"user_id": value} for value in (5.0, 5.5, 2.0**53, -1.0)]))
    assert [event.user_id for event in parsed.events] == ["5"]
    assert [index for index, _ in parsed.rejected] == [1, 2, 3]


@pytest.mark.parametrize("kind", [pa.string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())])
def test_a_text_that_is_too_long_refuses_the_table_before_it_is_decoded(kind):
    column = pa.array(["x" * 513])
    column = column.dictionary_encode() if pa.types.is_dictionary(kind) else column.cast(kind)
    with pytest.raises(InvalidDataError, match="product_id has a string of 513 characters; at most 512"):
        parse_events(ARROW, stream(product_id=column))
    assert len(parse_events(ARROW, stream(product_id=pa.array(["é" * 512]))).events) == 1


def test_a_time_that_is_none_rejects_its_event_alone():
    columns = {name: [value] * 2 for name, value in EVENT.items()}
    body = stream(**columns, event_time=["2019-10-01 10:00:00.5 +00:00", "yesterday"])
    parsed = parse_events(ARROW, body)
    assert [event.time_s for event in parsed.events] == [1_569_924_000]
    assert "got 'yesterday'" in parsed.rejected[0][1]


@pytest.mark.parametrize(
    ("column", "shown"),
    [
        (pa.array([-7, 7]), "-7"),
        (pa.array([-7.0, 7.0]), "-7"),
        (pa.array([2**64 - 1, 7], pa.uint64()), str(2**64 - 1)),
        (pa.array([Decimal(10**30), Decimal(7)], pa.decimal128(38, 0)), "1" + "0" * 30),
        (pa.array([-7, 7]).dictionary_encode(), "-7"),
    ],
    ids=lambda value: str(getattr(value, "type", "")),
)
@pytest.mark.parametrize("name", ["user_id", "user_session", "product_id", "category_id", "event_id"])
def test_a_number_that_is_no_id_rejects_its_event_alone_as_in_json(name, column, shown):
    columns = {member: [value] * 2 for member, value in EVENT.items()}
    parsed = parse_events(ARROW, stream(**columns | {name: column}))
    assert len(parsed.events) == 1
    ((index, why),) = parsed.rejected
    assert (index, why) == (0, f"{name} must be a string or a whole number from 0 to 2^63-1, got {shown}")

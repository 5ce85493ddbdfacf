"""Compressed bodies of every route, and those that are damaged, or far larger than they look."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import tracemalloc
import zlib
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from hypothesis import given
from hypothesis import strategies as st

from serve_app.errors import MalformedBodyError, PayloadTooLargeError
from serve_app.http.admission import MAX_BULK_BYTES, MAX_ROW_BYTES
from serve_app.http.app import create_app
from serve_app.http.bodies import unpack
from serve_app.http.schemas import EXAMPLE_REQUEST
from serve_app.scoring.service.traffic import Traffic
from tests.testing_kit import MemoryAccessLog, MemorySplit
from tests.testing_kit.deployments.calls import AppCalls
from tests.testing_kit.history.live import LiveService
from tests.testing_kit.jobs.jobs import JobWorld
from tests.testing_kit.rollouts.control import AppTransport, LocalJobs, LocalRollouts
from tests.testing_kit.rollouts.rollouts import RolloutWorld

pytestmark = pytest.mark.unit

INFER = "/v2/models/purchase/infer"
ROW = {"price": 130.76, "hour": 12, "day_of_week": 1, "is_weekend": 0}


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


PACKERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("X-GZip", gzip.compress),
    "gzip in two members": ("gzip", lambda data: gzip.compress(data[:9]) + gzip.compress(data[9:])),
    "deflate": ("deflate", zlib.compress),
    "deflate, fast": ("deflate", lambda data: zlib.compress(data, 1)),
    "deflate without a header": ("Deflate", raw_deflate),
    "identity": ("identity", bytes),
}
BODIES = {
    "/predict_purchase": ("application/json", json.dumps(EXAMPLE_REQUEST).encode()),
    "/predict_purchase?detail=true": ("application/json", json.dumps(EXAMPLE_REQUEST).encode()),
    "/invocations": ("application/json", json.dumps({"dataframe_records": [ROW] * 3}).encode()),
    "/invocations of 2 MB": ("application/json", json.dumps({"dataframe_records": [ROW] * 30_000}).encode()),
    "/invocations of CSV": ("text/csv", b"price,hour,day_of_week,is_weekend\n130.76,12,1,0\n"),
    INFER: (
        "application/json",
        json.dumps(
            {"inputs": [{"name": n, "datatype": "FP64", "shape": [1], "data": [v]} for n, v in ROW.items()]}
        ).encode(),
    ),
}


@pytest.fixture(scope="module")
def calls(package) -> Iterator[AppCalls]:
    with AppCalls(package) as opened:
        yield opened


def content(answer) -> object:
    found = answer.json()
    return {name: value for name, value in found.items() if name != "prediction_id"}


@pytest.mark.parametrize("packer", PACKERS)
@pytest.mark.parametrize("path", BODIES)
def test_a_compressed_body_is_answered_as_the_plain_one(calls, path, packer):
    media, body = BODIES[path]
    encoding, pack = PACKERS[packer]
    path = path.partition(" ")[0]
    answer = calls.post(path, pack(body), content_type=media, content_encoding=encoding)
    expected = calls.post(path, body, content_type=media)
    assert expected.status_code == 200
    assert (answer.status_code, content(answer)) == (200, content(expected))


EVENT = {"event_type": "view", "product_id": "1", "price": 5, "user_id": "u", "user_session": "s", "event_id": "e"}


@pytest.mark.parametrize("packer", ["gzip", "deflate"])
def test_events_may_come_compressed(package, packer):
    encoding, pack = PACKERS[packer]
    headers = {"content-type": "application/x-ndjson", "content-encoding": encoding}

    async def send() -> httpx.Response:
        async with LiveService(package) as service:
            return await service.client.post("/v1/events", content=pack(json.dumps(EVENT).encode()), headers=headers)

    answer = asyncio.run(send())
    assert (answer.status_code, answer.json()["recorded"]) == (202, 1)


@pytest.mark.parametrize("packer", ["gzip", "deflate"])
@pytest.mark.parametrize("path", ["/v1/jobs", "/v1/rollouts"])
def test_commands_may_come_compressed(tmp_path, package_dir, path, packer):
    encoding, pack = PACKERS[packer]
    apps = {
        "rollouts": LocalRollouts(RolloutWorld(tmp_path / "rollouts", package_dir).control),
        "jobs": LocalJobs(JobWorld(tmp_path / "jobs").control),
    }
    app = create_app(Traffic(MemorySplit(), None), MemoryAccessLog(), timeout_s=1, **apps)
    with httpx.Client(transport=AppTransport(lambda: app), base_url="http://shop") as client:
        headers = {"content-type": "application/json"}
        plain = client.post(path, content=b'{"surprise": 1}', headers=headers)
        headers |= {"content-encoding": encoding}
        packed = client.post(path, content=pack(b'{"surprise": 1}'), headers=headers)
        refused = client.post(path, content=b"{}", headers=headers | {"content-encoding": "br"})
    assert packed.status_code == plain.status_code == 422
    assert packed.json()["errors"] == plain.json()["errors"]
    assert (refused.status_code, refused.headers["accept-encoding"]) == (415, "gzip, deflate")


@pytest.mark.parametrize("encoding", ["zstd", "br", "compress", "gzip, gzip", "gzip, deflate", "utf-8", "*"])
@pytest.mark.parametrize("path", ["/predict_purchase", "/invocations", INFER])
def test_another_encoding_is_refused_with_those_that_are_read(calls, encoding, path):
    answer = calls.post(path, b"{}", content_encoding=encoding)
    assert answer.status_code == 415
    assert answer.headers["accept-encoding"] == "gzip, deflate"
    assert answer.json()["type"] == "urn:scorecat:problem:unsupported-encoding"
    assert "Content-Encoding" in answer.json()["detail"]


def test_a_media_type_that_is_not_read_says_nothing_of_encodings(calls):
    answer = calls.post("/predict_purchase", b"x", content_type="text/plain")
    assert answer.status_code == 415
    assert "accept-encoding" not in answer.headers


@pytest.mark.parametrize("packer", ["gzip", "deflate", "deflate without a header"])
@pytest.mark.parametrize("path", ["/predict_purchase", "/invocations"])
@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-3],
        lambda data: data[: len(data) // 2],
        lambda data: data[:1],
        lambda data: data + b"more",
        lambda data: b"\xff" + data[1:],
        lambda _: b'{"price": 1}',
    ],
    ids=["end cut off", "half", "one byte", "something behind", "first byte", "not compressed"],
)
def test_a_damaged_stream_is_400(calls, path, packer, damage):
    encoding, pack = PACKERS[packer]
    answer = calls.post(path, damage(pack(BODIES[path][1])), content_encoding=encoding)
    assert answer.status_code == 400, answer.text
    assert answer.json()["type"] == "urn:scorecat:problem:malformed-body"


@pytest.mark.parametrize(("path", "limit"), [("/predict_purchase", MAX_ROW_BYTES), ("/invocations", MAX_BULK_BYTES)])
@pytest.mark.parametrize("packer", ["gzip", "gzip in two members", "deflate", "deflate without a header"])
def test_a_body_may_be_as_long_unpacked_as_plain_and_no_longer(calls, path, limit, packer):
    encoding, pack = PACKERS[packer]
    media, body = BODIES[path]
    padded = body + b" " * (limit - len(body))
    assert calls.post(path, pack(padded), content_type=media, content_encoding=encoding).status_code == 200
    answer = calls.post(path, pack(padded + b" "), content_type=media, content_encoding=encoding)
    assert answer.status_code == 413
    assert str(limit) in answer.json()["detail"]


def test_a_bomb_is_never_unpacked_beyond_the_limit():
    bomb = gzip.compress(bytes(64 * 1024 * 1024)) * 4
    tracemalloc.start()
    try:
        with pytest.raises(PayloadTooLargeError):
            unpack(bomb, b"gzip", 1024 * 1024)
        assert tracemalloc.get_traced_memory()[1] < 8 * 1024 * 1024
    finally:
        tracemalloc.stop()


@given(
    st.one_of(st.binary(max_size=2_000), st.binary(min_size=1).map(lambda b: (b * 40_000)[:40_000])),
    st.sampled_from(["gzip", "gzip in two members", "deflate", "deflate without a header"]),
)
def test_what_was_packed_is_unpacked(data, packer):
    encoding, pack = PACKERS[packer]
    assert unpack(pack(data), encoding.lower().encode(), 40_000) == data


@given(st.binary(max_size=200), st.sampled_from([b"gzip", b"deflate"]))
def test_whatever_comes_is_unpacked_or_refused(data, encoding):
    with contextlib.suppress(MalformedBodyError, PayloadTooLargeError):
        assert len(unpack(data, encoding, 500)) <= 500


def test_streams_that_hold_nothing_are_not_unpacked_without_end():
    empty = gzip.compress(b"")
    assert unpack(empty * 9_999 + gzip.compress(b"{}"), b"gzip", 10) == b"{}"
    with pytest.raises(MalformedBodyError, match="follow"):
        unpack(empty * 10_001, b"gzip", 10)


def test_an_empty_body_stays_one():
    assert unpack(b"", b"gzip", 10) == b""


@pytest.mark.parametrize("is_binary", [False, True])
@pytest.mark.parametrize("algorithm", [None, "gzip", "deflate"])
def test_tritons_client_may_compress(calls, algorithm, is_binary):
    inputs = []
    for name, value in ROW.items():
        tensor = triton.InferInput(name, [2], "FP64")
        tensor.set_data_from_numpy(np.array([value, value], np.float64), binary_data=is_binary)
        inputs.append(tensor)
    body, json_size = triton.InferenceServerClient.generate_request_body(inputs)
    headers = {} if json_size is None else {"Inference-Header-Content-Length": str(json_size)}
    if algorithm:
        body = {"gzip": gzip.compress, "deflate": zlib.compress}[algorithm](body)
        headers["Content-Encoding"] = algorithm
    answer = calls.post(INFER, body, **headers)
    assert answer.status_code == 200, answer.text
    size = answer.headers.get("inference-header-content-length")
    result = triton.InferenceServerClient.parse_response_body(
        answer.content, header_length=None if size is None else int(size)
    )
    assert result.as_numpy("probability").shape == (2,)

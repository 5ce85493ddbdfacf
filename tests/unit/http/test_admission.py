"""Every entrance asks whether a request may come in, and what is refused there is answered alike."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest

from serve_app.errors import BadRequestError, PayloadTooLargeError
from serve_app.http.admission import MAX_RECORD_BYTES, MAX_ROW_BYTES, Admission, Meter
from serve_app.http.app import create_app
from serve_app.http.schemas import EXAMPLE_REQUEST
from tests.testing_kit import MemoryAccessLog, MemoryMeter, make_scorer, make_traffic

pytestmark = pytest.mark.unit

EXAMPLE = json.dumps(EXAMPLE_REQUEST).encode()


def test_no_entrance_lets_in_what_is_not_admitted(package, monkeypatch):
    def refuse(self: Admission, exchange: object) -> None:
        raise BadRequestError("nobody may")

    async def main():
        log, meter = MemoryAccessLog(), MemoryMeter()
        scorer, encoder, _ = make_scorer(package)
        app = create_app(await make_traffic(scorer), log, timeout_s=5.0, meter=meter)
        monkeypatch.setattr(Admission, "admit", refuse)
        assert not app.lane.take([(b"content-type", b"application/json")], EXAMPLE, pytest.fail)
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://shop") as client:
            for method, path in (("POST", "/predict_purchase"), ("GET", "/livez"), ("POST", "/v2/models/m/infer")):
                answer = await client.request(method, path, content=b"", headers={"X-Request-Id": "r-1"})
                assert (answer.status_code, answer.headers["content-type"]) == (400, "application/problem+json")
                assert (answer.json()["detail"], answer.json()["request_id"]) == ("nobody may", "r-1")
                assert ("error" in answer.json()) == path.startswith("/v2")
                assert log.lines[-1] == ("r-1", method, path, 400, None)
        assert [code for _, code in meter.problems] == ["bad-request"] * 3
        assert encoder.batches == []

    asyncio.run(main())


def test_a_route_that_nobody_thought_of_takes_the_smallest_bodies():
    admission = Admission(MemoryAccessLog(), Meter(), 5.0)
    limits = {"/v1/jobs/x/cancel": MAX_RECORD_BYTES, "/v1/what/comes/next": MAX_ROW_BYTES, "/livez": MAX_ROW_BYTES}
    for path, limit in limits.items():
        admission.admit(admission.open("POST", path, {b"content-length": b"%d" % limit}))
        with pytest.raises(PayloadTooLargeError, match=f"may have {limit} bytes, {limit + 1} were announced"):
            admission.admit(admission.open("POST", path, {b"content-length": b"%d" % (limit + 1)}))

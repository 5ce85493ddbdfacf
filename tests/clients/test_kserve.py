"""KServe's client of the Open Inference Protocol over HTTP."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from kserve import InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput


def make_inputs(rows, *, binary):
    inputs = []
    for name, first in rows[0].items():
        kind, dtype = {str: ("BYTES", object), int: ("INT64", np.int64), float: ("FP64", np.float64)}[type(first)]
        tensor = InferInput(name, [len(rows)], kind)
        values = [row[name].encode() if kind == "BYTES" and binary else row[name] for row in rows]
        tensor.set_data_from_numpy(np.array(values, dtype=dtype), binary_data=binary)
        inputs.append(tensor)
    return inputs


def call(service_url, action):
    async def run():
        async with InferenceRESTClient(RESTConfig(protocol="v2", timeout=60)) as client:
            return await action(client)

    return asyncio.run(run())


def infer(service_url, inputs, outputs=None):
    request = InferRequest("purchase", inputs, request_id="r-1", request_outputs=outputs)
    return call(service_url, lambda client: client.infer(service_url, request, model_name="purchase"))


def test_it_finds_server_and_model_ready(service_url):
    assert call(service_url, lambda client: client.is_server_live(service_url))
    assert call(service_url, lambda client: client.is_server_ready(service_url))
    assert call(service_url, lambda client: client.is_model_ready(service_url, "purchase"))


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_tensors_are_scored_as_plain_rows_are(service_url, whole_rows, expected_whole, binary):
    answer = infer(service_url, make_inputs(whole_rows, binary=binary))
    assert answer.id == "r-1"
    assert answer.get_output_by_name("probability").as_numpy().tolist() == expected_whole


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
def test_requested_outputs_come_as_they_were_asked_for(service_url, whole_rows, expected_whole, binary):
    outputs = [RequestedOutput(name, {"binary_data": binary}) for name in ("probability", "recommendation")]
    answer = infer(service_url, make_inputs(whole_rows, binary=True), outputs)
    assert answer.get_output_by_name("probability").as_numpy().tolist() == expected_whole
    assert set(answer.get_output_by_name("recommendation").as_numpy().tolist()) <= {"high", "medium", "low"}


def test_a_missing_value_is_null_however_it_is_given(service_url, rows, expected):
    inputs = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in {"brand", "category_code"}:
            inputs.append(InferInput(name, [len(rows)], "BYTES", data=values))
        else:
            missing = float("nan") if len(inputs) % 2 else None
            values = [missing if value is None else float(value) for value in values]
            inputs.append(InferInput(name, [len(rows)], "FP64", data=values))
    assert infer(service_url, inputs).get_output_by_name("probability").as_numpy().tolist() == expected

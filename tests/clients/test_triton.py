"""Triton's HTTP client with compressed requests and answers."""

from __future__ import annotations

import numpy as np
import pytest
import tritonclient.http as triton


@pytest.fixture
def client(service_url):
    with triton.InferenceServerClient(service_url.removeprefix("http://"), network_timeout=60) as client:
        yield client


def make_inputs(rows, *, binary):
    inputs = []
    for name, first in rows[0].items():
        kind, dtype = {str: ("BYTES", object), int: ("INT64", np.int64), float: ("FP64", np.float64)}[type(first)]
        tensor = triton.InferInput(name, [len(rows)], kind)
        tensor.set_data_from_numpy(np.array([row[name] for row in rows], dtype=dtype), binary_data=binary)
        inputs.append(tensor)
    return inputs


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("answer", [None, "gzip", "deflate"])
@pytest.mark.parametrize("request_", [None, "gzip", "deflate"])
def test_compressed_tensors_are_scored_as_plain_rows_are(client, whole_rows, expected_whole, request_, answer, binary):
    outputs = [triton.InferRequestedOutput("probability", binary_data=binary)]
    result = client.infer(
        "purchase",
        make_inputs(whole_rows, binary=binary),
        outputs=outputs,
        request_compression_algorithm=request_,
        response_compression_algorithm=answer,
    )
    assert result.as_numpy("probability").tolist() == expected_whole


def test_nan_in_its_json_is_null(client, rows, expected):
    texts = {"brand", "category_code"}
    inputs = []
    for name in rows[0]:
        values = [row[name] for row in rows]
        if name in texts:
            tensor = triton.InferInput(name, [len(rows)], "BYTES")
            tensor.set_data_from_numpy(np.array([value or "" for value in values], dtype=object), binary_data=False)
            tensor._data = values  # the protocol's null, which numpy's text cannot say
        else:
            tensor = triton.InferInput(name, [len(rows)], "FP64")
            tensor.set_data_from_numpy(np.array(values, dtype=np.float64), binary_data=False)
        inputs.append(tensor)
    assert client.infer("purchase", inputs).as_numpy("probability").tolist() == expected

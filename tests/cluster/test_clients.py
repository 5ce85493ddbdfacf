"""Clients people already have, unchanged, against the running service."""

from __future__ import annotations

import io

import httpx
import numpy as np
import orjson
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tritonclient.http as triton

from serve_app.features.core.encoding import FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES
from serve_app.models.adapters.package_dir import load_package
from serve_app.models.catboost.scorer import CatBoostScorer
from tests.testing_kit import random_rows

pytestmark = pytest.mark.cluster
N_ROWS = 10_000
ARROW = "application/vnd.apache.arrow.stream"


@pytest.fixture(scope="module")
def rows() -> pa.Table:
    return pa.Table.from_batches([random_rows(N_ROWS, seed=3, null_share=0.0)])


@pytest.fixture(scope="module")
def expected(package_dir, rows) -> np.ndarray:
    package = load_package(package_dir, CatBoostScorer.load)
    encoded = FeatureEncoder(package.manifest.features, package.vocabularies).encode(
        rows.combine_chunks().to_batches()[0]
    )
    return package.model.classifier.predict_proba(encoded.matrix)[:, 1]


@pytest.fixture
def client(service):
    with triton.InferenceServerClient(f"127.0.0.1:{service.port}", network_timeout=30) as client:
        yield client


def make_inputs(rows: pa.Table, *, binary: bool) -> list[triton.InferInput]:
    inputs = []
    for spec in PURCHASE_FEATURES:
        is_text = spec.kind == "categorical"
        values = rows[spec.name].to_numpy(zero_copy_only=False).astype(object if is_text else np.float64)
        tensor = triton.InferInput(spec.name, [rows.num_rows], "BYTES" if is_text else "FP64")
        tensor.set_data_from_numpy(values, binary_data=binary)
        inputs.append(tensor)
    return inputs


def test_triton_s_client_reads_health_and_metadata(client):
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready("purchase")
    assert client.is_model_ready("purchase", "1")
    assert client.get_server_metadata()["name"] == "scorecat"
    metadata = client.get_model_metadata("purchase")
    assert [i["name"] for i in metadata["inputs"]] == [s.name for s in PURCHASE_FEATURES]


@pytest.mark.parametrize("binary", [True, False])
def test_triton_s_client_infers_to_the_last_bit(client, rows, expected, binary):
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in ("probability", "recommendation")]
    result = client.infer("purchase", make_inputs(rows, binary=binary), outputs=outputs, request_id="r-1")
    assert result.get_response()["id"] == "r-1"
    assert np.array_equal(result.as_numpy("probability"), expected)
    assert len(result.as_numpy("recommendation")) == N_ROWS


def test_triton_s_client_gets_the_protocol_s_error(client):
    tensor = triton.InferInput("colour", [1], "FP64")
    tensor.set_data_from_numpy(np.ones(1))
    with pytest.raises(triton.InferenceServerException, match="colour"):
        client.infer("purchase", [tensor])


def payloads(rows: pa.Table) -> dict[str, tuple[str, bytes]]:
    frame = rows.to_pandas()
    split = frame.to_dict(orient="split", index=False)
    parquet = io.BytesIO()
    pq.write_table(rows, parquet)
    stream = pa.BufferOutputStream()
    with pa.ipc.new_stream(stream, rows.schema) as writer:
        writer.write_table(rows)
    return {
        "dataframe_split": ("application/json", orjson.dumps({"dataframe_split": split})),
        "dataframe_records": ("application/json", orjson.dumps({"dataframe_records": frame.to_dict(orient="records")})),
        "inputs": ("application/json", orjson.dumps({"inputs": frame.to_dict(orient="list")})),
        "instances": ("application/json", orjson.dumps({"instances": frame.to_dict(orient="records")})),
        "csv": ("text/csv", frame.to_csv(index=False).encode()),
        "parquet": ("application/vnd.apache.parquet", parquet.getvalue()),
        "arrow": (ARROW, stream.getvalue().to_pybytes()),
    }


def test_every_form_of_the_same_rows_gives_the_same_probabilities(service, rows, expected):
    for form, (media, body) in payloads(rows).items():
        answer = httpx.post(f"{service.url}/invocations", content=body, headers={"Content-Type": media}, timeout=30)
        assert answer.status_code == 200, (form, answer.text[:500])
        assert answer.json()["predictions"] == expected.tolist(), form


def test_arrow_is_answered_in_kind(service, rows, expected):
    _, body = payloads(rows)["arrow"]
    headers = {"Content-Type": ARROW, "Accept": ARROW}
    answer = httpx.post(f"{service.url}/invocations", content=body, headers=headers, timeout=30)
    frame = pa.ipc.open_stream(answer.content).read_pandas()
    assert isinstance(frame, pd.DataFrame)
    assert np.array_equal(frame["probability"].to_numpy(), expected)

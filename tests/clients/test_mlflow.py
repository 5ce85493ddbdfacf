"""MLflow's own scoring client, `mlflow.pyfunc.scoring_server.client`."""

from __future__ import annotations

from urllib.parse import urlsplit

import httpx
import numpy as np
import pandas as pd
import pytest
from mlflow.pyfunc.scoring_server.client import ScoringServerClient


@pytest.fixture
def client(service_url):
    address = urlsplit(service_url)
    return ScoringServerClient(address.hostname, address.port)


def test_it_finds_the_server_ready(client):
    client.wait_server_ready(timeout=10)
    assert client.get_version()


def test_a_frame_with_missing_values_which_it_writes_as_nan_is_scored_as_null(client, rows, expected):
    frame = pd.DataFrame(rows)
    assert frame.isna().to_numpy().any()
    assert client.invoke(frame)["predictions"] == expected


@pytest.mark.parametrize("missing", [None, float("nan")], ids=["none", "nan"])
def test_a_column_of_objects_may_say_missing_either_way(client, rows, expected, missing):
    columns = {name: [missing if row[name] is None else row[name] for row in rows] for name in rows[0]}
    assert client.invoke(pd.DataFrame(columns, dtype=object))["predictions"] == expected


def test_a_frame_of_whole_numbers_and_text(client, whole_rows, plain):
    names = ["price", "hour", "day_of_week", "is_weekend", "total_events_x", "total_purchases", "brand"]
    rows = [{**{name: row[name] for name in names}, "price": int(row["price"]) + 1} for row in whole_rows]
    frame = pd.DataFrame(rows)
    assert {str(kind) for kind in frame.dtypes} == {"int64", "object"}
    assert client.invoke(frame)["predictions"] == plain(rows)


@pytest.mark.parametrize("kind", ["Int64", "Int8", "UInt16", "Float64"])
def test_pandas_own_types_of_missing_values(client, rows, expected, kind):
    whole = [name for name, value in rows[0].items() if isinstance(value, int)]
    frame = pd.DataFrame(rows).astype(dict.fromkeys(whole, kind) | {"brand": "string", "category_code": "category"})
    assert client.invoke(frame)["predictions"] == expected


def test_rows_of_a_list(client, rows, expected):
    assert client.invoke(rows)["predictions"] == expected


def test_an_array_of_rows_in_the_model_s_order(client, service_url, whole_rows, expected_whole):
    names = [tensor["name"] for tensor in httpx.get(f"{service_url}/v2/models/purchase").json()["inputs"]]
    array = np.array([[row[name] for name in names] for row in whole_rows], dtype=object)
    assert client.invoke(array)["predictions"] == expected_whole


def test_its_answer_becomes_a_frame_and_an_array(client, rows, expected):
    answer = client.invoke(pd.DataFrame(rows))
    assert answer.get_predictions()[0].tolist() == expected
    assert answer.get_predictions("ndarray").tolist() == expected

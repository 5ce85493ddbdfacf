"""A log through the live service: loaded, and every feature and score as in training."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from serve_app.events.adapters.log_writer import LogWriter
from serve_app.events.service.synthetic import generate_events

pytestmark = pytest.mark.cluster
REAL = Path(__file__).parents[3] / "shared" / "data" / "rees46" / "events_head.csv"
N_EVENTS = 4_000


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """Generated events, a tenth of them without category."""
    with LogWriter(tmp_path_factory.mktemp("log") / "events.parquet") as writer:
        for batch in generate_events(N_EVENTS, seed=11):
            gone = np.random.default_rng(0).random(batch.num_rows) < 0.1
            column = batch.column("category_id")
            values = pa.array(column.to_pylist(), column.type, mask=gone)
            writer.write(batch.set_column(batch.schema.get_field_index("category_id"), "category_id", values))
    return writer.path


def verify(service, log: Path) -> dict:
    done = service.run("features", "verify", str(log), "--json", timeout_s=500, check=False)
    found = json.loads(done.stdout)
    assert (done.returncode, found["different"]) == (0, 0), found["differences"][:5]
    assert found["values"] == 45 * (found["rows"] - found["rejected"]) + found["rejected"]
    return found


def test_every_value_of_generated_events_is_that_of_training(service, log):
    found = verify(service, log)
    assert found["rows"] + found["purchases"] == N_EVENTS
    assert found["versions"] == [1]
    removed = json.loads(service.run("features", "clean", str(log), "--json").stdout)
    assert removed["events"] == N_EVENTS


@pytest.mark.timeout(600)
@pytest.mark.skipif(not REAL.exists(), reason="the real log is not beside this checkout")
def test_every_value_of_the_real_log_is_that_of_training(service):
    found = verify(service, REAL)
    assert found["rows"] == 17_201
    assert found["dropped"] == {"price not above 0": 19}


def test_a_log_is_loaded_once_however_often_it_is_sent(service, log):
    first = json.loads(service.run("events", "load", str(log), "--json").stdout)
    assert (first["recorded"], first["dropped"]) == (N_EVENTS, 0)
    again = json.loads(service.run("events", "load", str(log), "--json", "--from-start").stdout)
    assert (again["recorded"], again["duplicate"]) == (0, N_EVENTS)

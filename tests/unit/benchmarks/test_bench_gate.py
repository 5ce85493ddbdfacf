"""The regression gate of the benchmarks: which ratios it reads, and when it refuses a run."""

from __future__ import annotations

import json
import math
import sys

import pytest

from benchmarks import gate
from benchmarks.bulk import PANDAS, RAW_1, SERVICE_ARROW, SERVICE_JSON

pytestmark = pytest.mark.unit


def make_bench(per_second=0.9, p99=0.8, arrow=0.3, n_bad=0):
    ratio = {"per_second": {"median": per_second}, "p99_ms": {"median": p99}, "cpu_us": {"median": 1.1}}
    one = {RAW_1: 1000.0, PANDAS: 100.0, SERVICE_ARROW: 1000.0 * arrow, SERVICE_JSON: 80.0}
    return {
        "machine": {"cores": 2},
        "summary": {gate.MANY: {"service": {}, "ratios": {"service/numpy": ratio}}},
        "bulk_rounds": [{form: {"rows_per_second": rate} for form, rate in one.items()}],
        "n_wrong_or_missing": n_bad,
    }


@pytest.fixture
def run(tmp_path, monkeypatch):
    def run(bench, *arguments):
        (tmp_path / "bench.json").write_text(json.dumps(bench))
        given = ["gate", str(tmp_path / "bench.json"), "--stored", str(tmp_path / "stored.json"), *arguments]
        monkeypatch.setattr(sys, "argv", given)
        gate.main()

    run(make_bench(), "--store")
    return run


def test_what_is_stored_holds(run, capsys):
    run(make_bench())
    assert capsys.readouterr().out.count("holds") == 5


@pytest.mark.parametrize("worse", [{"per_second": 0.67}, {"p99": 1.01}, {"arrow": 0.22}, {"n_bad": 1}])
def test_a_run_that_is_worse_or_wrong_is_refused(run, worse):
    with pytest.raises(SystemExit) as caught:
        run(make_bench(**worse))
    assert caught.value.code == 1


@pytest.mark.parametrize("alike", [{"per_second": 0.68}, {"per_second": 2.0}, {"p99": 0.99}, {"p99": 0.1}])
def test_noise_and_better_runs_pass(run, alike, capsys):
    run(make_bench(**alike))
    assert "worse" not in capsys.readouterr().out


def test_a_ratio_that_was_not_measured_does_not_hold(run):
    bench = make_bench()
    bench["bulk_rounds"] = []
    with pytest.raises(SystemExit):
        run(bench)
    rows = gate.compare({"a, rows/s": 1.0}, {}, 0.25)
    assert rows[0][3] is False
    assert math.isnan(rows[0][2])


def test_the_stored_ratios_are_those_that_a_run_has():
    bench = make_bench()
    ratios = bench["summary"][gate.MANY]["ratios"]
    ratios["service/pandas"] = ratios["service/numpy"]
    assert set(json.loads(gate.STORED.read_bytes())["ratios"]) == set(gate.read_ratios(bench))

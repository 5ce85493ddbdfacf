"""A plan is read whole or refused with every field that is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from serve_app.errors import BadRequestError
from serve_app.rollouts.adapters.plan_file import load_plan
from serve_app.rollouts.core.plan import DEFAULT_PLAN, Metric, Plan, dump_plan, parse_plan, restore_plan

pytestmark = pytest.mark.unit

DOCS = Path(__file__).parents[3] / "docs" / "rollouts.md"


def errors_of(record):
    with pytest.raises(BadRequestError, match="the plan cannot be used") as caught:
        parse_plan(record)
    return {error.pointer: error.detail for error in caught.value.errors}


def test_an_empty_plan_is_the_default_plan():
    assert parse_plan({}) == DEFAULT_PLAN == Plan()
    assert DEFAULT_PLAN.false_rollback_share == pytest.approx(0.05)


def test_a_plan_is_read_back_as_it_was_written():
    plan = Plan((2.5, 100.0), webhook="https://example.org/x", metrics=(Metric("latency", 0.01, 1.5, dry_run=True),))
    for each in (plan, DEFAULT_PLAN, Plan(metrics=())):
        assert parse_plan(json.loads(json.dumps(dump_plan(each)))) == each
        assert restore_plan(json.loads(json.dumps(dump_plan(each)))) == each
    assert plan.false_rollback_share == 0.0


def test_a_plan_that_is_stored_is_read_though_it_would_be_refused_today():
    plan = Plan(steps=(100.0,), initial_delay_s=1e12, webhook="http://169.254.169.254/")
    assert restore_plan(json.loads(json.dumps(dump_plan(plan)))) == plan


def test_everything_at_once_is_a_plan_when_time_and_health_alone_decide():
    assert parse_plan({"steps": [100], "metrics": {}}).steps == (100.0,)


def test_what_a_metric_leaves_out_is_as_in_the_default_plan():
    plan = parse_plan({"metrics": {"score": {"max_psi": 0.1}, "errors": None}})
    assert plan.metrics == (
        Metric("score", 0.01, 0.1, interval_s=30.0, inconclusive_limit=360),
        DEFAULT_PLAN.metrics[0],
    )


def test_argos_spelling_is_read_too():
    plan = parse_plan(
        {
            "interval": "5m",
            "initialDelay": "1.5s",
            "metrics": {
                "errors": {
                    "interval": "1h",
                    "failureLimit": 2,
                    "inconclusiveLimit": 3,
                    "consecutiveErrorLimit": 1,
                    "dryRun": True,
                }
            },
        }
    )
    assert (plan.interval_s, plan.initial_delay_s) == (300.0, 1.5)
    assert plan.metrics == (Metric("errors", 0.03, 0.02, 3600.0, 1, 2, 3, 1, dry_run=True),)


@pytest.mark.parametrize(
    ("steps", "detail"),
    [
        ([], "at least one share"),
        (None, "at least one share"),
        ("1, 5", "at least one share"),
        ([5, 1], "steps must rise (users would bounce between versions), got 1 after 5"),
        ([5, 5], "got 5 twice"),
        ([1, 101], "above 0 and up to 100 per cent, got 101"),
        ([0, 10], "got 0"),
        ([-1], "got -1"),
        (["5"], "got '5'"),
        ([True], "got True"),
        ([float("nan")], "got nan"),
        ([0.001], "a step is a multiple of 0.01 per cent"),
        ([100], "no metric can be measured: begin with a smaller one, or write `metrics: {}`"),
    ],
)
def test_steps_that_make_no_sense_are_named(steps, detail):
    assert detail in errors_of({"steps": steps})["/steps"]


@pytest.mark.parametrize(
    ("record", "pointer", "detail"),
    [
        ({"step": [1]}, "/step", "did you mean steps?"),
        ({"color": 1}, "/color", "known: steps"),
        ({3: 1}, "/3", "unknown"),
        ({"interval_s": -1}, "/interval_s", "seconds from 0 to 31,622,400 (a year), or a text such as 30s"),
        ({"interval_s": "5 parsecs"}, "/interval_s", "got '5 parsecs'"),
        ({"interval_s": True}, "/interval_s", "got True"),
        ({"bake_time_s": float("inf")}, "/bake_time_s", "got inf"),
        ({"interval_s": 3, "interval": 4}, "/interval", "says the same as interval_s: give one of them"),
        ({"webhook": "ftp://x"}, "/webhook", "http or https"),
        ({"webhook": "https://"}, "/webhook", "http or https"),
        ({"webhook": 3}, "/webhook", "http or https"),
        ({"metrics": []}, "/metrics", "must be a mapping"),
        ({"metrics": {"latenzy": {}}}, "/metrics/latenzy", "no such metric; there are errors, latency, score"),
        ({"metrics": {"errors": 3}}, "/metrics/errors", "must be a mapping"),
        ({"metrics": {"errors": {"max_ratio": 2}}}, "/metrics/errors/max_ratio", "unknown"),
        ({"metrics": {"errors": {"alpha": 0}}}, "/metrics/errors/alpha", "above 0 and below 0.5"),
        ({"metrics": {"errors": {"max_added_share": 2}}}, "/metrics/errors/max_added_share", "below 1, got 2"),
        ({"metrics": {"latency": {"max_ratio": 1}}}, "/metrics/latency/max_ratio", "a ratio above 1"),
        ({"metrics": {"errors": {"count": 0}}}, "/metrics/errors/count", "a whole number from 1"),
        ({"metrics": {"errors": {"failureLimit": 1.5}}}, "/metrics/errors/failureLimit", "a whole number from 0"),
        ({"metrics": {"errors": {"dry_run": "yes"}}}, "/metrics/errors/dry_run", "true or false"),
        ({"metrics": {"errors": {"interval_s": 0}}}, "/metrics/errors/interval_s", "seconds from 1"),
        ({"metrics": {"errors": {"interval_s": 1e12}}}, "/metrics/errors/interval_s", "a year"),
        ({"metrics": {"errors": {"count": 10**40}}}, "/metrics/errors/count", "to 1,000,000, got 1000000"),
        ({"metrics": {"errors": {"max_added_share": 10**400}}}, "/metrics/errors/max_added_share", "of 1,329 bits"),
        ({"metrics": {"errors": []}}, "/metrics/errors", "must be a mapping"),
        ({"initialDelay": 1e12}, "/initialDelay", "seconds from 0 to 31,622,400 (a year)"),
        ({"rollback_window_s": "9999999h"}, "/rollback_window_s", "a year"),
        ({"bake_time_s": 10**400}, "/bake_time_s", "got a whole number of 1,329 bits"),
        ({"steps": [10**5000]}, "/steps", "got a whole number of 16,610 bits"),
        ({"webhook": "http://x:99999/"}, "/webhook", "a port that is not a number from 1 to 65535"),
        ({"webhook": "http://x:0/"}, "/webhook", "the port 0"),
        ({"webhook": "http://a b/"}, "/webhook", "has blanks"),
        ({"webhook": "http://a/\r\nX: 1"}, "/webhook", "has blanks, control characters"),
        ({"webhook": "http://bücher.example/"}, "/webhook", "xn--"),
        ({"webhook": "http://a..b/"}, "/webhook", "no name of a machine"),
        ({"webhook": "http://169.254.169.254/latest"}, "/webhook", "link-local"),
        ({"webhook": "http://[::ffff:169.254.169.254]/"}, "/webhook", "link-local"),
        ({"webhook": "http://[fe80::1]/"}, "/webhook", "link-local"),
        ({"webhook": "http://2852039166/"}, "/webhook", "no IP address in its usual spelling"),
        ({"webhook": "http://0xa9fea9fe/"}, "/webhook", "no IP address in its usual spelling"),
        ({"webhook": "http://[::]/"}, "/webhook", "unspecified"),
        ({"webhook": "http://0.0.0.0/"}, "/webhook", "unspecified"),
        ({"webhook": "http://[::1/"}, "/webhook", "http or https"),
        ({"webhook": "http://metadata.google.internal./"}, "/webhook", "metadata service"),
    ],
)
def test_a_field_that_cannot_be_used_is_named_with_what_would_be_right(record, pointer, detail):
    assert detail in errors_of(record)[pointer]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:9000/x",
        "http://[::1]:80/",
        "https://10.1.2.3/a?b=%20",
        "http://hooks",
        "https://u:p@a.b-c.example./",
    ],
)
def test_a_webhook_may_be_near_or_far(url):
    assert parse_plan({"webhook": url}).webhook == url


def test_a_field_that_is_huge_or_deep_is_refused_in_few_words():
    bomb: list = ["x"]
    for _ in range(8):
        bomb = [bomb] * 9
    deep: list = []
    for _ in range(20_000):
        deep = [deep]
    for value in (bomb, deep, "9" * 10**6, {"a": bomb}):
        for name in ("steps", "interval_s", "webhook", "metrics", "x" * 10**5):
            errors = errors_of({name: value} | ({name: [value]} if name == "steps" else {}))
            assert all(len(pointer) + len(detail) < 500 for pointer, detail in errors.items())


def test_everything_that_is_wrong_is_said_at_once():
    record = {"steps": [], "webhok": "x", "metrics": {"errors": {"alpha": 2, "count": -1}, "x": {}}}
    assert set(errors_of(record)) == {
        "/steps",
        "/webhok",
        "/metrics/errors/alpha",
        "/metrics/errors/count",
        "/metrics/x",
    }


@pytest.mark.parametrize("record", [[], "plan", 3, None])
def test_something_else_than_a_mapping_is_no_plan(record):
    with pytest.raises(BadRequestError, match="a plan is a mapping"):
        parse_plan(record)


def test_a_plan_file_is_read(tmp_path):
    path = tmp_path / "plan.yaml"
    path.write_text("steps: [10, 50]  # per cent\nmetrics: {errors: {max_added_share: 0.01}}\n")
    assert load_plan(path) == parse_plan({"steps": [10, 50], "metrics": {"errors": {"max_added_share": 0.01}}})
    path.write_text("# nothing but a remark\n")
    assert load_plan(path) == DEFAULT_PLAN


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("steps: [1", "is not YAML"),
        ("steps: [1]\nsteps: [2]", "steps is given twice"),
        ("metrics: {errors: {count: 1, count: 2}}", "count is given twice"),
        ("!!python/object/apply:os.system ['true']", "is not YAML"),
        ("? [1, 2]\n: 3", "is not YAML"),
        ("a: 1\n\0", "is not YAML"),
        ("- 1", "a plan is a mapping"),
        (f"steps: {'[' * 3000}", "nested too deeply"),
    ],
)
def test_a_file_that_is_no_plan_is_named(tmp_path, text, message):
    path = tmp_path / "plan.yaml"
    path.write_text(text)
    with pytest.raises(BadRequestError, match=message):
        load_plan(path)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    for path in (tmp_path / "no.yaml", tmp_path):
        with pytest.raises(BadRequestError, match="cannot be read"):
            load_plan(path)
    (tmp_path / "latin").write_bytes(b"steps: [\xff]")
    with pytest.raises(BadRequestError, match="is not YAML"):
        load_plan(tmp_path / "latin")


def test_the_plan_shown_in_the_docs_is_the_default_plan():
    shown = re.search(r"```yaml\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    assert shown is not None
    record = yaml.safe_load(shown[1])
    assert parse_plan(record) == DEFAULT_PLAN
    dumped = dump_plan(DEFAULT_PLAN)
    assert set(record) == set(dumped)
    assert {name: set(fields) for name, fields in record["metrics"].items()} == {
        name: set(fields) for name, fields in dumped["metrics"].items()
    }

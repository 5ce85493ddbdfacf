"""Generated logs look like the published one, and are the same for the same seed."""

from __future__ import annotations

import pyarrow as pa
import pytest

from serve_app.errors import BadRequestError
from serve_app.events.adapters.spill import EventSpill
from serve_app.events.service.describe import describe_log
from serve_app.events.service.synthetic import GeneratedLog, generate_events
from serve_app.features.core.row_keys import PUBLISHED_COLUMNS

pytestmark = pytest.mark.unit


@pytest.mark.parametrize("seed", [0, 1])
def test_every_published_figure_is_close_at_a_million_events(seed):
    with EventSpill() as spill:
        description = describe_log(GeneratedLog(1_000_000, seed), spill)
    assert [figure for figure in description.figures if not figure.is_close] == []
    assert description.summary.dropped == {}


def test_the_log_has_the_published_columns_the_size_asked_for_and_is_sorted():
    table = pa.Table.from_batches(generate_events(250_000, seed=5))
    assert tuple(table.column_names) == PUBLISHED_COLUMNS
    assert table.num_rows == 250_000
    time_s = table.column("event_time").to_numpy()
    assert (time_s[1:] >= time_s[:-1]).all()


@pytest.mark.parametrize("n_events", [1, 10, 1000])
def test_small_logs_have_the_size_asked_for(n_events):
    assert sum(batch.num_rows for batch in generate_events(n_events)) == n_events


def test_equal_seeds_give_equal_logs_and_others_do_not():
    first, again, other = (pa.Table.from_batches(generate_events(5_000, seed=s)) for s in (1, 1, 2))
    assert first.equals(again)
    assert not first.equals(other)


def test_a_session_belongs_to_one_user():
    table = pa.Table.from_batches(generate_events(20_000))
    users = table.group_by("user_session").aggregate([("user_id", "count_distinct")])
    assert set(users.column("user_id_count_distinct").to_pylist()) == {1}


def test_no_events_is_refused():
    with pytest.raises(BadRequestError):
        list(generate_events(0))

"""Rollouts on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.table import Table

from serve_app.cli.console import err, out
from serve_app.client.rollouts import RolloutClient
from serve_app.core.errors import NotReadyError

POLL_S: Final = 1.0
KINDS: Final = {"canary": "canary", "ab": "A/B test", "shadow": "shadow"}


def is_over(rollout: Mapping[str, Any]) -> bool:
    """Return whether a rollout has come to its end."""
    return not rollout["is_active"]


def watch(client: RolloutClient, rollout_id: int, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Say on stderr what changes until a rollout is over, and return it.

    The control app may be away for a while, as it is while it is replaced; that is said and waited for.
    """
    said = ""
    with err.status("") as shown:
        while True:
            try:
                found = client.describe(rollout_id)
            except NotReadyError as exc:
                shown.update(f"{exc.detail}; waiting")
                sleep(POLL_S)
                continue
            line = f"{summarise(found)}: {found['why']}"
            if line != said:
                err.print(f"{time.strftime('%H:%M:%S')}  {line}", markup=False)
                said = line
            if is_over(found):
                return found
            shown.update(_say_progress(found))
            sleep(POLL_S)


def summarise(rollout: Mapping[str, Any]) -> str:
    """Return where a rollout stands, in a few words."""
    words = [rollout["phase"].replace("_", " ")]
    if rollout["kind"] != "shadow":
        words.append(f"at {_percent(rollout['share'])} of the users")
    if rollout["kind"] == "canary" and rollout["phase"] in ("progressing", "paused"):
        words.append(f"(step {rollout['step'] + 1} of {rollout['n_steps']})")
    return " ".join(words)


def print_brief(rollout: Mapping[str, Any]) -> None:
    """Print one line of a rollout."""
    out.print(f"{_name(rollout)}: {summarise(rollout)}", markup=False)


def print_list(rollouts: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of rollouts."""
    if not rollouts:
        out.print("there was no rollout yet")
        return
    table = Table("id", "what", "began", "state", "why", box=None)
    for r in rollouts:
        what = f"{r['model']} {KINDS[r['kind']]} v{r['stable']} -> v{r['version']}"
        table.add_row(str(r["id"]), what, _say_time(r["created_at"]), summarise(r), r["why"])
    out.print(table, markup=False)


def print_history(rollout_id: int, changes: Sequence[Mapping[str, Any]]) -> None:
    """Print the changes of a rollout."""
    out.print(f"rollout {rollout_id}")
    for change in changes:
        was = change["from"] or "-"
        out.print(f"{_say_time(change['at'])}  {was:>11} -> {change['to']:11}  {change['who']}", markup=False)
        if change["why"]:
            out.print(f"    {change['why']}", markup=False)


def print_rollout(rollout: Mapping[str, Any]) -> None:
    """Print everything a person wants to know of a rollout."""
    out.print(f"{_name(rollout)}: {summarise(rollout)} since {_say_time(rollout['since'])}", markup=False)
    if rollout["why"]:
        out.print(f"  {rollout['why']}", markup=False)
    if rollout.get("mismatch"):
        out.print(f"  shares: {rollout['mismatch']}", markup=False)
    _print_arms(rollout)
    _print_verdicts(rollout["verdicts"])
    if rollout["shadow"] is not None:
        _print_shadow(rollout)
    for app in rollout["apps"]:
        out.print("  app  " + "  ".join(f"{name} {value}" for name, value in app.items() if value), markup=False)
    if rollout.get("take_back_until"):
        out.print(f"  may be taken back until {_say_time(rollout['take_back_until'])}", markup=False)
    if rollout["commands"]:
        out.print(f"  what can be done: {', '.join(rollout['commands'])}", markup=False)


def _print_arms(rollout: Mapping[str, Any]) -> None:
    table = Table("version", "share", "requests", "errors", "error share", "mean score", "latency", box=None)
    for arm in rollout["arms"]:
        table.add_row(
            f"v{arm['version']}{' (stable)' if arm['version'] == rollout['stable'] else ''}",
            _percent(arm["share"]),
            f"{arm['requests']:,}",
            f"{arm['errors']:,}",
            _say_interval(arm["error_share"], lambda value: f"{value:.2%}"),
            _say_interval(arm["mean_score"], lambda value: f"{value:.4f}"),
            _say_interval(arm["latency_s"], lambda value: f"{value * 1000:.1f} ms"),
        )
    out.print(table, markup=False)


def _print_verdicts(verdicts: Sequence[Mapping[str, Any]]) -> None:
    if not verdicts:
        return
    table = Table("metric", "verdict", "passed", "evidence", box=None)
    for v in verdicts:
        outcome = v["outcome"] or "not measured yet"
        table.add_row(
            v["metric"],
            f"{outcome} (dry run)" if v["is_dry_run"] else outcome,
            f"{v['n_passed']} of {v['n_needed']}",
            v["evidence"],
        )
    out.print(table, markup=False)


def _print_shadow(rollout: Mapping[str, Any]) -> None:
    shadow = rollout["shadow"]
    out.print(
        f"  v{rollout['version']} gets copies of {_percent(rollout['copied_share'])} of the requests: "
        f"{shadow['n_copied']:,} rows copied, {shadow['n_compared']:,} compared, {shadow['n_dropped']:,} dropped, "
        f"{shadow['n_failed']:,} failed",
        markup=False,
    )
    if shadow["n_compared"]:
        quantiles = ", ".join(f"{name} {value:.2g}" for name, value in shadow["quantiles"].items())
        mean = f"{shadow['mean_difference']:+.3g} (standard error {shadow['standard_error']:.2g})"
        out.print(
            f"  shadow minus live: mean {mean}; absolute: {quantiles}, largest {shadow['largest_difference']:.2g}; "
            f"another recommendation {shadow['changed_share']:.2%}; latency {shadow['mean_latency_s'] * 1000:.1f} ms",
            markup=False,
        )


def _say_progress(rollout: Mapping[str, Any]) -> str:
    verdicts = ", ".join(f"{v['metric']} {v['outcome'] or 'not measured yet'}" for v in rollout["verdicts"])
    counts = ", ".join(f"v{a['version']} {a['requests']:,} requests {a['errors']:,} errors" for a in rollout["arms"])
    return " · ".join(part for part in (counts, verdicts) if part)


def _name(rollout: Mapping[str, Any]) -> str:
    versions = f"v{rollout['stable']} -> v{rollout['version']}"
    return f"rollout {rollout['id']} ({rollout['model']} {KINDS[rollout['kind']]} {versions})"


def _say_interval(interval: Mapping[str, float] | None, write: Callable[[float], str]) -> str:
    if interval is None:
        return "-"
    return f"{write(interval['value'])} ({write(interval['low'])} - {write(interval['high'])})"


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _say_time(at: str) -> str:
    return f"{at[:10]} {at[11:19]} UTC"

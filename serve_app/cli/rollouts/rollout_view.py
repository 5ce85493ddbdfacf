"""Rollouts on the terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from rich.markup import escape
from rich.text import Text

from serve_app.client.operator import RolloutClient
from serve_app.errors import NotReadyError
from serve_app.runtime.shown_values import show_line
from serve_app.terminal.columns import measure
from serve_app.terminal.console import choose_style, err, out, print_aligned

POLL_S: Final = 1.0
FIRST_WORD_LOOKS: Final = 15
LAST_WORD_LOOKS: Final = 300
KINDS: Final = {"canary": "canary", "ab": "A/B test", "shadow": "shadow"}


def is_over(rollout: Mapping[str, Any]) -> bool:
    """Return whether a rollout has come to its end."""
    return not rollout["is_active"]


def _say_now(line: str) -> None:
    err.print(show_line(f"{time.strftime('%H:%M:%S')}  {line}"), markup=False)


class Quiet:
    """Says when nothing was told for so many looks that a word is due: after 15, then ever more seldom."""

    def __init__(self) -> None:
        self._n_looks, self._due = 0, FIRST_WORD_LOOKS

    def is_long(self) -> bool:
        """Count one look and return whether a word is due."""
        self._n_looks += 1
        if self._n_looks < self._due:
            return False
        self._n_looks, self._due = 0, min(2 * self._due, LAST_WORD_LOOKS)
        return True


def watch(client: RolloutClient, rollout_id: int, *, sleep: Callable[[float], None] = time.sleep) -> dict[str, Any]:
    """Say on stderr what changes until a rollout is over, and return it.

    The control app may be away for a while, as it is while it is replaced; that is said and waited for.
    """
    said, quiet = "", Quiet()
    with err.status("") as shown:
        while True:
            try:
                found = client.describe(rollout_id)
            except NotReadyError as exc:
                shown.update(escape(show_line(f"{exc.detail}; waiting")))
                sleep(POLL_S)
                continue
            line = f"{summarise(found)}: {found['why']}"
            if line != said:
                _say_now(line)
                said, quiet = line, Quiet()
            elif quiet.is_long():
                _say_now(say_waiting(found))
            if is_over(found):
                return found
            shown.update(escape(show_line(_say_progress(found))))
            sleep(POLL_S)


def summarise(rollout: Mapping[str, Any]) -> str:
    """Return where a rollout stands, in a few words."""
    is_trial = rollout["kind"] != "canary"
    ended = rollout["phase"] == "rolled_back" and is_trial
    words = ["ended" if ended else rollout["phase"].replace("_", " ")]
    if rollout["kind"] == "ab" and not ended:
        words.append(f"with {', '.join(f'v{version} {share:g} %' for version, share in rollout['shares'].items())}")
    if rollout["kind"] == "canary":
        words.append(f"at {_percent(rollout['share'])} of the users")
    if rollout["kind"] == "canary" and rollout["phase"] in ("progressing", "paused"):
        words.append(f"(step {rollout['step'] + 1} of {rollout['n_steps']})")
    return " ".join(words)


def print_brief(rollout: Mapping[str, Any], more: str = "") -> None:
    """Print one line of a rollout, with more at its end."""
    state = summarise(rollout)
    line = Text(show_line(f"{_name(rollout)}: ")).append(show_line(state), choose_style(state))
    out.print(line.append(more))


def print_list(rollouts: Sequence[Mapping[str, Any]]) -> None:
    """Print a table of rollouts."""
    if not rollouts:
        out.print("there was no rollout yet")
        return
    rows = [("id", "what", "began", "state")]
    rows += [
        (str(r["id"]), f"{r['model']} {_describe_versions(r)}", _say_time(r["created_at"]), summarise(r))
        for r in rollouts
    ]
    print_aligned(rows, "", state=3)


def print_history(rollout: Mapping[str, Any], changes: Sequence[Mapping[str, Any]]) -> None:
    """Print the changes of a rollout, what became of telling its webhook with each."""
    names = {} if rollout["kind"] == "canary" else {"rolled_back": "ended"}
    out.print(f"rollout {rollout['id']}")
    for change in changes:
        was, to = change["from"] or "-", change["to"]
        became = "" if was == to else f"{names.get(was, was):>11} -> "
        _say(f"{_say_time(change['at'])}  {became + names.get(to, to):26}  {change['who']}")
        if change["why"]:
            _say(f"    {change['why'].removeprefix(change['who'] + ': ')}")
        if change.get("webhook"):
            _say(f"    webhook: {change['webhook']}")


def print_rollout(rollout: Mapping[str, Any]) -> None:
    """Print everything a person wants to know of a rollout."""
    print_brief(rollout, f" since {_say_time(rollout['since'])}")
    if rollout["why"]:
        _say(f"  {rollout['why']}")
    if rollout.get("mismatch") or rollout.get("sample_ratio"):
        _say(f"  shares: {rollout['mismatch'] or rollout['sample_ratio']}")
    if rollout["shadow"] is not None:
        _print_shadow(rollout)
    else:
        _print_arms(rollout)
        _print_verdicts(rollout)
    if rollout["n_allowed"]:
        _say(f"  named users: {rollout['n_allowed']:,}, whose requests are not compared")
    _print_apps(rollout)
    if rollout["champion"] == "left":
        _say(f"  the alias champion did not follow; why: `scorecat rollout history {rollout['id']}`")
    if rollout.get("take_back_until"):
        _say(f"  may be taken back until {_say_time(rollout['take_back_until'])}")
    if rollout["commands"]:
        _say(f"  what can be done: {', '.join(rollout['commands'])}")


def _say(line: str) -> None:
    """Print a line; names and reasons in it were written by others."""
    out.print(show_line(line), markup=False)


def _print_arms(rollout: Mapping[str, Any]) -> None:
    rows = [("version", "share", "requests", "compared", "errors", "error share", "mean score", "latency")]
    rows += [
        (
            f"v{arm['version']}{' (stable)' if arm['version'] == rollout['stable'] else ''}",
            _percent(arm["share"]),
            f"{sum(arm['routed'].values()):,}",
            f"{arm['requests']:,}",
            f"{arm['errors']:,}",
            _say_interval(arm["error_share"], lambda value: f"{value:.2%}"),
            _say_interval(arm["mean_score"], lambda value: f"{value:.4f}"),
            _say_interval(arm["latency_s"], lambda value: f"{value * 1000:.1f} ms"),
        )
        for arm in rollout["arms"]
    ]
    if out.is_terminal and measure(rows) > out.width - 2:  # as it is with intervals: a column a version
        rows = list(zip(*rows, strict=True))
    print_aligned(rows)


def _print_verdicts(rollout: Mapping[str, Any]) -> None:
    if not rollout["verdicts"]:
        return
    rows = [("metric", "verdict", "evidence")]
    rows += [(v["metric"], _say_verdict(v, rollout["phase"]), v["evidence"]) for v in rollout["verdicts"]]
    print_aligned(rows, state=1)


def _say_verdict(verdict: Mapping[str, Any], phase: str) -> str:
    """Return a verdict in words; what a rollout did not have to wait for before it succeeded is not left open."""
    outcome = verdict["outcome"]
    if outcome is None:
        said = "not measured yet"
    elif outcome == "inconclusive" and phase == "succeeded":
        said = "no harm found"
    else:
        said = f"{outcome} ({verdict['n_passed']} passed of {verdict['n_needed']} needed)"
    return f"{said}, dry run" if verdict["is_dry_run"] else said


def _print_apps(rollout: Mapping[str, Any]) -> None:
    for app in rollout["apps"]:
        said = [f"proved {_say_time(app['proved_at'])}" if app["proved_at"] else "", app["detail"], app["problem"]]
        words = ", ".join([app["status"], *filter(None, said)])
        _say(f"  {rollout['model']}-v{app['version']}: {words}")


def _print_shadow(rollout: Mapping[str, Any]) -> None:
    shadow, verb = rollout["shadow"], "got" if is_over(rollout) else "gets"
    _say(
        f"  v{rollout['version']} {verb} copies of {_percent(rollout['copied_share'])} of the requests: "
        f"{shadow['n_copied']:,} rows copied, {shadow['n_compared']:,} compared, {shadow['n_dropped']:,} dropped, "
        f"{shadow['n_failed']:,} failed"
    )
    if shadow["n_compared"]:
        quantiles = ", ".join(f"{name} {value:.2g}" for name, value in shadow["quantiles"].items())
        mean = f"{shadow['mean_difference']:+.3g} (standard error {shadow['standard_error']:.2g})"
        _say(
            f"  shadow minus live: mean {mean}; absolute: {quantiles}, largest {shadow['largest_difference']:.2g}; "
            f"another recommendation {shadow['changed_share']:.2%}; latency {shadow['mean_latency_s'] * 1000:.1f} ms"
        )


def _say_progress(rollout: Mapping[str, Any]) -> str:
    verdicts = ", ".join(f"{v['metric']} {v['outcome'] or 'not measured yet'}" for v in rollout["verdicts"])
    counts = ", ".join(
        f"v{a['version']} {a['requests']:,} compared requests {a['errors']:,} errors" for a in rollout["arms"]
    )
    return " · ".join(part for part in (counts, verdicts) if part)


def say_waiting(rollout: Mapping[str, Any]) -> str:
    """Return what a rollout waits for, in one line."""
    if rollout["phase"] == "paused":
        return "waiting for a person: `scorecat rollout " + "`, `".join(rollout["commands"]) + "`"
    if rollout["phase"] == "deploying":
        states = [
            f"v{app['version']} {', '.join(filter(None, (app['status'], app['problem'])))}" for app in rollout["apps"]
        ]
        return f"waiting for the version to be ready: {'; '.join(states) or 'not begun yet'}"
    tried = [arm for arm in rollout["arms"] if arm["version"] != rollout["stable"]]
    if rollout["kind"] != "shadow" and not any(arm["requests"] for arm in tried):
        return "waiting for requests: none has been compared yet"
    open_ones = [v for v in rollout["verdicts"] if not v["is_dry_run"] and v["n_passed"] < v["n_needed"]]
    said = [f"{v['metric']} {v['outcome'] or 'not measured yet'}: {v['evidence']}".rstrip(": ") for v in open_ones]
    if said and rollout["phase"] == "progressing":
        return f"waiting for {'; '.join(said)}"
    return f"waiting for the time to pass; {_say_progress(rollout)}"


def _name(rollout: Mapping[str, Any]) -> str:
    return f"rollout {rollout['id']} ({rollout['model']} {_describe_versions(rollout)})"


def _describe_versions(rollout: Mapping[str, Any]) -> str:
    stable, version, kind = rollout["stable"], rollout["version"], rollout["kind"]
    if kind == "ab":
        *others, last = [f"v{each}" for each in rollout["shares"]]
        between = f"{', '.join(others)} and {last}"
    else:
        between = f"v{stable} -> v{version}" if kind == "canary" else f"v{version} beside v{stable}"
    return f"{KINDS[kind]} {between}"


def _say_interval(interval: Mapping[str, float] | None, write: Callable[[float], str]) -> str:
    if interval is None:
        return "-"
    return f"{write(interval['value'])} ({write(interval['low'])} - {write(interval['high'])})"


def _percent(share: float) -> str:
    return f"{share * 100:.4g} %"


def _say_time(at: str) -> str:
    return f"{at[:10]} {at[11:19]} UTC"

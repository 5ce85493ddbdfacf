"""``scorecat rollout`` and ``shadow``: ship a version step by step, take it back, or only try it, by the service."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from serve_app.cli.options import UrlOption
from serve_app.cli.rollouts.rollout_view import is_over, print_brief, print_history, print_list, print_rollout, watch
from serve_app.client.operator import RolloutClient
from serve_app.cluster.running import read_url
from serve_app.errors import BadRequestError, NotFoundError
from serve_app.models.service.registry import name_mover
from serve_app.rollouts.adapters.plan_file import load_rollout
from serve_app.rollouts.service.request import parse_start
from serve_app.settings import load_settings
from serve_app.terminal.console import JsonOption, err, out, print_json, print_result

WhyOption = Annotated[str, typer.Option("--why", help="Why, for the history.")]
IdArgument = Annotated[
    int | None, typer.Argument(metavar="[ID]", min=1, help="Number of the rollout; default the newest.")
]


def start(
    version: Annotated[
        str | None, typer.Argument(metavar="[VERSION]", help="Number or alias; may also be said by the plan file.")
    ] = None,
    plan: Annotated[Path | None, typer.Option(help="YAML file of the plan; default the default plan.")] = None,
    share_of: Annotated[
        list[str] | None,
        typer.Option(metavar="VERSION=PERCENT", help="An A/B test: once for each version, together 100."),
    ] = None,
    allow: Annotated[list[str] | None, typer.Option(metavar="USER", help="Gets the version in any case.")] = None,
    why: WhyOption = "",
    wait: Annotated[
        bool, typer.Option("--wait", help="Return when it is over; exit code 1 unless it succeeded.")
    ] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Start a canary (or, with --share-of, an A/B test) of a version.

    The version is deployed and proved first; nothing changes for anybody before that.
    """
    given: dict[str, Any] = {"version": version, "shares": _parse_shares(share_of or []), "allow": allow}
    given = {name: value for name, value in given.items() if value}
    if plan is None:
        parse_start(given)  # what JSON cannot say, such as nan, would become something else on the way
    body = load_rollout(plan, given) if plan else given
    with connect(url) as client:
        started = client.start({**body, "who": name_caller(), "why": why})
        if wait:
            finish(client, started["id"], as_json)
            return
    print_result(started, print_brief, as_json=as_json)
    if not as_json:
        number = started["id"]
        err.print(f"see `scorecat rollout status {number}`; `scorecat rollout abort {number}` takes it back")


def status(
    rollout_id: IdArgument = None,
    follow: Annotated[
        bool, typer.Option("--watch", help="Show progress until it is over; Ctrl-C changes nothing.")
    ] = False,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show a rollout: shares, verdicts with their evidence, counts, and what can be done."""
    with connect(url) as client:
        number = rollout_id or _find_newest(client)
        if number is None:
            if as_json:
                print_json({"rollout": None})
            else:
                out.print("there was no rollout yet; `scorecat rollout start VERSION` begins one")
            return
        if follow:
            finish(client, number, as_json)
            return
        found = client.describe(number)
    print_result(found, print_rollout, as_json=as_json)


def _make_command(name: str, words: str) -> Callable[..., None]:
    """Return the command that tells a rollout to do something."""

    def tell(
        rollout_id: IdArgument = None, why: WhyOption = "", url: UrlOption = None, as_json: JsonOption = False
    ) -> None:
        with connect(url) as client:
            found = client.command(_need_newest(client, rollout_id), name, name_caller(), why)
        print_result(found, print_brief, as_json=as_json)

    tell.__doc__ = words
    return tell


pause = _make_command("pause", "Keep the shares as they are until `resume`; a failure still rolls back.")
resume = _make_command("resume", "Go on after a pause; the step is measured anew.")
promote = _make_command("promote", "Give the canary everything now, whatever the measurements say.")
abort = _make_command(
    "abort", "Take everything back at once; also ends A/B tests and shadows, and takes back what has just succeeded."
)


def history(
    rollout_id: IdArgument = None,
    every: Annotated[bool, typer.Option("--all", help="List rollouts in place of the changes of one.")] = False,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="With --all: at most so many.")] = 20,
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print every change of a rollout, oldest first: when, who, why, on what evidence."""
    with connect(url) as client:
        if every:
            found = client.recent(limit=limit)
            print_result({"rollouts": found}, lambda _: print_list(found), as_json=as_json)
            return
        number = _need_newest(client, rollout_id)
        changes = client.history(number)
        if as_json:
            print_json({"rollout": number, "changes": changes})
        else:
            print_history(client.describe(number), changes)


def start_shadow(
    version: Annotated[str, typer.Argument(help="Number or alias.")],
    share: Annotated[float, typer.Option(help="Share of the requests that are copied, above 0 and up to 1.")] = 0.1,
    why: WhyOption = "",
    url: UrlOption = None,
    as_json: JsonOption = False,
) -> None:
    """Deploy a version and send it copies; `scorecat rollout status` shows how its scores differ."""
    body = {"version": version, "kind": "shadow", "share": share}
    parse_start(body)  # what JSON cannot say, such as nan, would become something else on the way
    with connect(url) as client:
        started = client.start({**body, "who": name_caller(), "why": why})
    print_result(started, print_brief, as_json=as_json)
    if not as_json:
        err.print("see `scorecat rollout status`; `scorecat shadow stop` ends it")


def stop_shadow(why: WhyOption = "", url: UrlOption = None, as_json: JsonOption = False) -> None:
    """End the shadow that runs."""
    with connect(url) as client:
        running = [r for r in client.recent(limit=1) if r["kind"] == "shadow" and r["is_active"]]
        if not running:
            raise NotFoundError("no shadow runs; `scorecat rollout history --all` lists what there was")
        ended = client.command(running[0]["id"], "abort", name_caller(), why)
    print_result(ended, print_brief, as_json=as_json)


def connect(url: str | None) -> RolloutClient:
    """Return a client of the service at `url`, or of the one that `up` started; a context."""
    return RolloutClient(url or read_url(load_settings()))


def name_caller() -> str:
    """Return who this is, for the history."""
    return load_settings().user or name_mover()


def finish(client: RolloutClient, rollout_id: int, as_json: bool) -> None:
    """Show progress until a rollout is over; exit code 1 unless it succeeded."""
    try:
        found = watch(client, rollout_id)
    except KeyboardInterrupt:
        err.print(f"the rollout goes on; `scorecat rollout status {rollout_id} --watch` shows it")
        raise
    print_result(found, print_rollout, as_json=as_json)
    if is_over(found) and found["phase"] != "succeeded":
        raise typer.Exit(1)


def _need_newest(client: RolloutClient, rollout_id: int | None) -> int:
    number = rollout_id or _find_newest(client)
    if number is None:
        raise NotFoundError("there was no rollout yet; `scorecat rollout start VERSION` begins one")
    return number


def _find_newest(client: RolloutClient) -> int | None:
    newest = client.recent(limit=1)
    return int(newest[0]["id"]) if newest else None


def _parse_shares(given: list[str]) -> dict[str, float]:
    shares: dict[str, float] = {}
    for text in given:
        version, _, share = text.partition("=")
        try:
            shares[str(int(version.strip().lstrip("v")))] = float(share.strip().rstrip("%"))
        except ValueError as exc:
            raise BadRequestError(f"--share-of {text}: write VERSION=PERCENT, for example 2=50") from exc
    return shares

"""``scorecat shadow``: a version that gets copies of requests and answers nobody."""

from __future__ import annotations

from typing import Annotated

import typer

from serve_app.cli.options import UrlOption
from serve_app.cli.rollouts.rollout import WhyOption, connect, name_caller
from serve_app.cli.rollouts.rollout_view import print_brief
from serve_app.errors import NotFoundError
from serve_app.rollouts.service.request import parse_start
from serve_app.terminal.console import JsonOption, err, print_result


def start(
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


def stop(why: WhyOption = "", url: UrlOption = None, as_json: JsonOption = False) -> None:
    """End the shadow that runs."""
    with connect(url) as client:
        running = [r for r in client.recent(limit=1) if r["kind"] == "shadow" and r["is_active"]]
        if not running:
            raise NotFoundError("no shadow runs; `scorecat rollout history --all` lists what there was")
        ended = client.command(running[0]["id"], "abort", name_caller(), why)
    print_result(ended, print_brief, as_json=as_json)

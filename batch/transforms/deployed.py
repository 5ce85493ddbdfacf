"""Whether the version that a new job wants is there to score, and what else can be done."""

from __future__ import annotations

from collections.abc import Iterable


def explain_absence(model: str, version: int, apps: Iterable[str]) -> str:
    """Return why a job cannot begin with a version's own replicas, and the two ways out; nothing when it can.

    Parameters
    ----------
    model, version : str, int
        What is to score.
    apps : iterable of str
        Names of the Serve applications that can answer.
    """
    prefix = f"{model}-v"
    numbers = (app.removeprefix(prefix) for app in apps if app.startswith(prefix))
    there = sorted(int(number) for number in numbers if number.isdecimal())
    if version in there:
        return ""
    named = f"deployed of it: {', '.join(f'version {v}' for v in there)}" if there else "no version of it is"
    ways = [f"score with --model {model}@{there[-1]}"] if there else []
    ways.append("let the job bring its own replicas with --pool dedicated")
    return f"{model} version {version} is not deployed ({named}), nothing was scored: {', or '.join(ways)}"

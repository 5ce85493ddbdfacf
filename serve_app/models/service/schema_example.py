"""A schema for one model, as text that can be pasted into a file and changed there."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Final

from serve_app.models.core.model_facts import ModelFacts

MAX_LINES: Final = 60
"""Inputs that an example lists."""
_PLAIN: Final = re.compile(r"(?!(?:y|n|yes|no|on|off|true|false|null|nan)\Z)[A-Za-z_][A-Za-z0-9_]*", re.IGNORECASE)
"""Names that YAML reads as text without quotes."""


def write_example(facts: ModelFacts, names: Sequence[str] = ()) -> str:
    """Return a schema of the inputs; those without a name are numbered."""
    chosen = names or [f"input_{j}" for j in range(1, len(facts.feature_names) + 1)]
    lines = [
        f"- {{name: {quote(name)}}}{'  # a native category' if j in facts.categorical else ''}"
        for j, name in enumerate(chosen[:MAX_LINES])
    ]
    if len(chosen) > MAX_LINES:
        lines.append(f"# and the other {len(chosen) - MAX_LINES} inputs in the same way, in the model's order")
    return "\n".join(["features:", *lines])


def write_codes(names: Sequence[str]) -> str:
    """Return a schema for categories that are numbers to the model: the classes in the order of their codes."""
    entries = [f'- {{name: {quote(name)}, classes: ["class of code 0", "class of code 1"]}}' for name in names]
    return "\n".join(["features:", *entries])


def write_rules(names: Sequence[str]) -> str:
    """Return a schema that says units and bounds of numbers."""
    return "\n".join(["features:", *(f'- {{name: {quote(name)}, unit: "?", minimum: 0}}' for name in names)])


def quote(name: str) -> str:
    """Return a name as YAML reads it back."""
    return name if _PLAIN.fullmatch(name) else json.dumps(name, ensure_ascii=not name.isprintable())

"""A rollout's plan as a YAML file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from serve_app.core.errors import BadRequestError
from serve_app.core.rollout_plan import Plan, parse_plan


class _StrictLoader(yaml.SafeLoader):
    """Plain values only, and no name twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"{twice} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def load_plan(path: Path) -> Plan:
    """Read a plan.

    Raises
    ------
    BadRequestError
        The file cannot be read, is not YAML, or `errors` names the fields that cannot be used.
    """
    try:
        record = yaml.load(path.read_text("utf-8"), _StrictLoader)  # noqa: S506 # a SafeLoader
    except OSError as exc:
        raise BadRequestError(f"the plan {path} cannot be read: {exc.strerror or exc}") from exc
    except (yaml.YAMLError, ValueError, TypeError) as exc:
        raise BadRequestError(f"the plan {path} is not YAML: {' '.join(str(exc).split())}") from exc
    return parse_plan({} if record is None else record)

"""A rollout as a YAML file: its plan, and beside it what else a request to start it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from serve_app.core.errors import BadRequestError
from serve_app.core.rollout_plan import DEFAULT_PLAN, Plan, dump_plan, parse_plan
from serve_app.service.rollout_request import FIELDS, parse_rollout_file


class _StrictLoader(yaml.SafeLoader):
    """Plain values only, and no name twice: YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        names = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((name for k, name in enumerate(names) if name in names[:k]), None)
        if twice is not None:
            raise yaml.MarkedYAMLError(problem=f"{twice} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)


def load_plan(path: Path) -> Plan:
    """Read a plan; what the file says beside it (version, model, …) is checked and left out.

    Raises
    ------
    BadRequestError
        The file cannot be read, is not YAML, or `errors` names the fields that cannot be used.
    """
    record = _load_yaml(path)
    if not isinstance(record, Mapping) or not record.keys() & FIELDS.keys():
        return parse_plan(record)
    return parse_rollout_file(record).plan or DEFAULT_PLAN


def load_rollout(path: Path, given: Mapping[str, Any]) -> dict[str, Any]:
    """Read a rollout: the body of a request to start it.

    Parameters
    ----------
    given : mapping
        Fields that go before those of the file (version, model, kind, shares, share, allow).

    Raises
    ------
    BadRequestError
        As `load_plan`.
    """
    record = _load_yaml(path)
    if not isinstance(record, Mapping):
        raise BadRequestError(f"{path} holds no rollout: a mapping of names such as `version`, `steps` and `metrics`")
    asked = parse_rollout_file({**record, **given})
    body = {name: value for name, value in {**record, **given}.items() if name in FIELDS and value is not None}
    if "shares" in body:
        body["shares"] = {str(version): share for version, share in body["shares"].items()}
    return body if asked.plan is None else {**body, "plan": dump_plan(asked.plan)}


def _load_yaml(path: Path) -> Any:
    try:
        record = yaml.load(path.read_text("utf-8"), _StrictLoader)  # noqa: S506 # a SafeLoader
    except OSError as exc:
        raise BadRequestError(f"the plan {path} cannot be read: {exc.strerror or exc}") from exc
    except (yaml.YAMLError, ValueError, TypeError) as exc:
        raise BadRequestError(f"the plan {path} is not YAML: {' '.join(str(exc).split())}") from exc
    except RecursionError as exc:
        raise BadRequestError(f"the plan {path} is nested too deeply to be one") from exc
    return {} if record is None else record

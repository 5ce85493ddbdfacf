"""A rollout as a YAML file: its plan, and beside it what else a request to start it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serve_app.errors import BadRequestError
from serve_app.rollouts.core.plan import DEFAULT_PLAN, Plan, dump_plan, parse_plan
from serve_app.rollouts.service.request import FIELDS, parse_rollout_file
from serve_app.storage.document_file import load_document


def load_plan(path: Path) -> Plan:
    """Read a plan; what the file says beside it (version, model, …) is checked and left out.

    Raises
    ------
    BadRequestError
        The file cannot be read, is neither YAML nor JSON, or `errors` names the fields that cannot be used.
    """
    record = _load(path)
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
    record = _load(path)
    if not isinstance(record, Mapping):
        raise BadRequestError(f"{path} holds no rollout: a mapping of names such as `version`, `steps` and `metrics`")
    asked = parse_rollout_file({**record, **given})
    body = {name: value for name, value in {**record, **given}.items() if name in FIELDS and value is not None}
    if "shares" in body:
        body["shares"] = {str(version): share for version, share in body["shares"].items()}
    return body if asked.plan is None else {**body, "plan": dump_plan(asked.plan)}


def _load(path: Path) -> Any:
    record = load_document(path, "the plan")
    return {} if record is None else record

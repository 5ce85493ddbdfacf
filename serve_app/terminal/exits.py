"""How a command ends with an error."""

from __future__ import annotations

import sys
from typing import Any

from serve_app.errors import BadRequestError, ConflictError, ScorecatError
from serve_app.terminal.console import err, print_json


def exit_code(error: ScorecatError) -> int:
    """Return 2 for wrong use or wrong input, 1 for what failed.

    A conflict is a failure: nothing was wrong with what was asked, somebody else was first.
    """
    return 2 if isinstance(error, BadRequestError) and not isinstance(error, ConflictError) else 1


def error_fields(error: ScorecatError) -> dict[str, Any]:
    """Return the members of an error for ``--json``."""
    fields: dict[str, Any] = {"code": error.code, "detail": error.detail}
    if error.errors:
        fields["errors"] = [{"pointer": e.pointer, "detail": e.detail} for e in error.errors]
    return fields


def report_error(error: ScorecatError) -> None:
    """Write the error to stderr, and with ``--json`` to stdout as an object."""
    if "--json" in sys.argv:
        print_json({"error": error_fields(error)})
    err.print(f"error: {error}", style="red", markup=False)

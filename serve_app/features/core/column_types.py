"""Which types the column of an input, or of a key, may have: asked by every gate and by the encoder."""

from __future__ import annotations

import pyarrow as pa

from serve_app.errors import InvalidDataError
from serve_app.features.core.arrow_types import IDS, NUMBERS, TEXT_RULE, TIMES, meaning_of
from serve_app.features.core.specs import FeatureSpec


def can_hold(spec: FeatureSpec, kind: pa.DataType) -> bool:
    """Return whether values of a type can mean an input."""
    meaning = meaning_of(kind)
    if spec.kind == "numeric":
        return meaning in NUMBERS or (meaning == "boolean" and spec.takes_booleans)
    return meaning in (TIMES if _is_time(spec) else IDS)


def check_type(spec: FeatureSpec, kind: pa.DataType, column: str | None = None, where: str = "") -> None:
    """Refuse a column whose type cannot mean its input.

    Parameters
    ----------
    spec : FeatureSpec
    kind : DataType
    column : str, optional
        The column's name where it is not the input's.
    where : str
        Of what the column is, for the message.

    Raises
    ------
    InvalidDataError
        The type is a list, binary, text for a number, and the like.
    """
    if can_hold(spec, kind):
        return
    wanted = "numbers" if spec.kind == "numeric" else "times" if _is_time(spec) else TEXT_RULE
    meant = "" if column in {None, spec.name} else f" for {spec.name}"
    prefix = f"{where}: " if where else ""
    raise InvalidDataError(
        f"{prefix}column {column or spec.name} must hold {wanted}{meant}, not {str(kind)[:80]}{_advise(kind)}"
    )


def _is_time(spec: FeatureSpec) -> bool:
    return spec.group == "key" and spec.unit == "time"


def _advise(kind: pa.DataType) -> str:
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind):
        return ": write text as strings, not as binary"
    return ""

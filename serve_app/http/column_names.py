"""What names of columns and members say: what is not there, what is misspelt, what no one reads."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import quote

from serve_app.errors import FieldError, InvalidRowError, point_at
from serve_app.features.core.near_names import pair_near
from serve_app.features.core.numeric_columns import describe_required
from serve_app.features.core.specs import FeatureSpec
from serve_app.features.core.typed_columns import ParsedTable
from serve_app.http.parameters import IGNORED_COLUMNS

T = TypeVar("T", bound=ParsedTable | None)
MAX_NAMED: Final = 20
"""Names that the header and a sentence have."""
MAX_ERRORS: Final = 100
"""Columns that are refused one by one; the others are of the same kind."""
MAX_HEADER_BYTES: Final = 1024


def parse_named(
    parse: Callable[[bytes, Sequence[FeatureSpec]], T],
    body: bytes,
    features: Sequence[FeatureSpec],
    defaults: Collection[str],
) -> T:
    """Parse a table and check its columns; of the module's level, so that it can run in another process."""
    table = parse(body, features)
    if table is not None:
        check_columns(table, features, defaults)
    return table


def check_columns(table: ParsedTable, features: Sequence[FeatureSpec], defaults: Collection[str]) -> None:
    """Refuse a table whose scores would rest on columns that are not there without anybody having said so.

    Parameters
    ----------
    table : ParsedTable
    features : sequence of FeatureSpec
        All that the table may have, keys of the history among them.
    defaults : collection of str
        Features whose column may be absent, whatever the rest is called.

    Raises
    ------
    InvalidRowError
        A feature is absent that nothing was declared for, or an absent one is there under a name that is near.
    """
    present = set(table.batch.schema.names)
    absent = [spec for spec in features if spec.name not in present]
    if not absent or not table.batch.num_rows:
        return
    lacking = [spec for spec in absent if spec.on_null == "reject" or not (spec.may_be_absent or spec.name in defaults)]
    errors = [FieldError(point_at(spec.name), _describe_lacking(spec, defaults)) for spec in lacking]
    near = pair_near(table.ignored, [spec.name for spec in absent if spec.name not in defaults])
    said = [f"the table lacks required columns: {_list([spec.name for spec in lacking])}"] if lacking else []
    said += [describe_near(near)] if near else []
    if said:
        raise InvalidRowError("; ".join(said), (*errors[:MAX_ERRORS], *point_near(near)[:MAX_ERRORS]))


def point_near(near: Mapping[str, str]) -> tuple[FieldError, ...]:
    """Return an error for each name that was probably meant for another, `near` gives for which."""
    return tuple(
        FieldError(point_at(name), f"is not known here; did you mean {meant}?") for name, meant in near.items()
    )


def describe_near(near: Mapping[str, str]) -> str:
    """Return what is wrong with names that were probably meant for others, and what there is to do."""
    named = _list([f"{name[:80]} (did you mean {meant}?)" for name, meant in near.items()])
    lifted = ",".join(dict.fromkeys(_encode(meant) for meant in near.values()))
    lifted = f"?defaults={lifted[:MAX_HEADER_BYTES]}"
    return f"no one reads {named}: rename what is misspelt, or say that the input is absent on purpose by {lifted}"


def describe_ignored(names: Sequence[str]) -> str:
    """Return the value of the header ``X-Ignored-Columns``.

    At most `MAX_NAMED` percent-encoded names with commas between them; ``;more=`` and a number when there are others,
    or when they would make it longer than `MAX_HEADER_BYTES`.
    """
    shown: list[str] = []
    room = MAX_HEADER_BYTES - len(f";more={len(names)}")
    for name in map(_encode, names[:MAX_NAMED]):
        room -= len(name) + 1
        if room < 0:
            break
        shown.append(name)
    more = len(names) - len(shown)
    return ",".join(shown) + (f";more={more}" if more else "")


def ignored_header(names: Sequence[str]) -> tuple[bytes, bytes]:
    """Return the header as ASGI has it."""
    return IGNORED_COLUMNS.lower().encode(), describe_ignored(names).encode()


def _encode(name: str) -> str:
    return quote(name, safe="", errors="replace")


def _describe_lacking(spec: FeatureSpec, defaults: Collection[str]) -> str:
    if spec.on_null == "reject":
        why = "; ?defaults cannot help, since null is rejected: `fill` in a schema allows it"
        return describe_required(spec) + (why if spec.name in defaults else "")
    return f"is required, null where it is not known (?defaults={_encode(spec.name)} takes null for every row)"


def _list(names: Sequence[str]) -> str:
    more = f" and {len(names) - MAX_NAMED} more" if len(names) > MAX_NAMED else ""
    return ", ".join(names[:MAX_NAMED]) + more

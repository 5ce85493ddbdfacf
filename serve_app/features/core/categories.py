"""One categorical column: from labels to codes, and to the strings that a model takes as they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from serve_app.errors import InvariantError
from serve_app.features.core.arrow_types import as_text
from serve_app.features.core.column_types import check_type
from serve_app.features.core.specs import UNKNOWN_CLASS, FeatureSpec
from serve_app.features.core.whole_numbers import read_whole

_MISSING: Final = frozenset({UNKNOWN_CLASS, "", "nan", "NaN", "None", "<NA>"})
"""Classes that stand for no value, as pandas and NumPy write it."""


@dataclass(frozen=True, slots=True)
class CategoryValues:
    """An encoded categorical column of n rows.

    Attributes
    ----------
    codes : ndarray of float, shape (n,)
        Position of each row's class in the vocabulary; 0 for rejected rows.
    missing : ndarray of bool, shape (n,), or None
        Rows whose value was null; None when none was.
    unseen : ndarray of bool, shape (n,), or None
        Rows whose class the vocabulary does not list; None when there is none.
    labels : arrow array of string, or of a dictionary of strings, n values
        The labels as text; null when the column was not there.
    broken : ndarray of bool, shape (n,), or None
        Rows whose value is a number that is no label (a fraction): they are rejected; None when there is none.
    """

    codes: NDArray[np.floating]
    missing: NDArray[np.bool_] | None
    unseen: NDArray[np.bool_] | None
    labels: pa.Array
    broken: NDArray[np.bool_] | None = None


class CategoryEncoder:
    """Encodes the columns of one categorical feature.

    Parameters
    ----------
    spec : FeatureSpec
    classes : sequence of str or None
        The vocabulary; a class's position is its code. None counts as ``[unseen_class]`` for a
        feature whose strings reach the model as they are.

    Raises
    ------
    InvariantError
        The vocabulary is not there, repeats a class, or lacks the class that unseen labels or nulls
        are encoded as; or nulls are allowed and no string is declared for them.
    """

    def __init__(self, spec: FeatureSpec, classes: Sequence[str] | None) -> None:
        if classes is None and spec.is_string and spec.on_unseen == "class":
            classes = [spec.unseen_class]
        codes = {label: float(code) for code, label in enumerate(classes or ())}
        accepts_all = spec.on_unseen == "class"
        if not codes or len(codes) != len(classes or ()) or (accepts_all and spec.unseen_class not in codes):
            needed = f", {spec.unseen_class} among them" if accepts_all else ""
            raise InvariantError(f"the vocabulary of {spec.name} must list distinct classes{needed}")
        if spec.on_null != "reject" and not accepts_all and str(spec.fill) not in codes:
            raise InvariantError(f"{spec.name} fills nulls with {spec.fill!r}, which its vocabulary does not list")
        if spec.is_string and spec.on_null != "reject" and not isinstance(spec.fill, str):
            raise InvariantError(f"{spec.name} must reject nulls or declare the string that stands for them")
        self.spec = spec
        self._classes = pa.array(list(codes), pa.string())
        self._whole = _find_whole_numbers(spec, list(codes))
        self._unseen_code = codes[spec.unseen_class] if accepts_all else -1.0
        self._null_code = codes.get(str(spec.fill), max(self._unseen_code, 0.0))

    def encode(self, column: pa.Array | None, n_rows: int) -> CategoryValues:
        """Encode one column; None counts as all null."""
        if column is None:
            codes = np.full(n_rows, self._null_code, dtype=np.float32)
            return CategoryValues(codes, np.ones(n_rows, dtype=bool), None, pa.nulls(n_rows, pa.string()))
        labels, broken = self._as_strings(column)
        found = self._find(labels)
        if self._whole and found.null_count > labels.null_count:
            labels = self._respell(labels)
            found = self._find(labels)
        missing = find_nulls(labels)
        unseen = None
        unlisted = find_nulls(found)
        if unlisted is not None and found.null_count > labels.null_count:
            unseen = unlisted if missing is None else unlisted & ~missing
        codes = pc.fill_null(found, max(int(self._unseen_code), 0)).to_numpy(zero_copy_only=False)
        if missing is not None:
            codes = np.where(missing, np.float32(self._null_code), codes)
        return CategoryValues(codes, missing, unseen, labels, broken)

    def _as_strings(self, column: pa.Array) -> tuple[pa.Array, NDArray[np.bool_] | None]:
        check_type(self.spec, column.type)
        labels, broken = as_text(column)
        if pa.types.is_dictionary(labels.type) and (
            # A null among the values is one of the column, and few rows are cheaper without their dictionary.
            labels.dictionary.null_count or len(labels.dictionary) >= len(labels)
        ):
            labels = labels.dictionary_decode()
        return labels, broken

    def _respell(self, labels: pa.Array) -> pa.Array:
        """Return labels with whole numbers written as the vocabulary writes them."""
        coded = labels if pa.types.is_dictionary(labels.type) else labels.dictionary_encode()
        listed = [self._whole.get(read_whole(text) or "", text) for text in coded.dictionary.to_pylist()]
        found = pa.DictionaryArray.from_arrays(coded.indices, pa.array(listed, pa.string()))
        return found if pa.types.is_dictionary(labels.type) else found.dictionary_decode()

    def _find(self, labels: pa.Array) -> pa.Array:
        """Return the position of each label's class, null for none; of a dictionary each label is looked up once."""
        if not pa.types.is_dictionary(labels.type):
            return pc.index_in(labels, value_set=self._classes)
        return pc.index_in(labels.dictionary, value_set=self._classes).take(labels.indices)

    def strings(self, labels: pa.Array, rows: NDArray[np.int64]) -> pa.Array:
        """Return the strings the model takes for the accepted rows, in memory of their own."""
        picked = labels.take(pa.array(rows))
        if pa.types.is_dictionary(picked.type):
            picked = picked.dictionary_decode()
        return picked.fill_null(self.spec.fill) if self.spec.on_null != "reject" else picked

    def describe_unseen(self, label: str) -> str:
        """Return why a row with this label is rejected."""
        return f"must be one of the {len(self._classes)} classes the model knows, got {label[:80]!r}"


def _find_whole_numbers(spec: FeatureSpec, classes: Sequence[str]) -> dict[str, str]:
    """Return the classes by the numbers they are, when all but those for no value are whole numbers; else nothing."""
    numbers = {label: read_whole(label) for label in classes}
    no_value = {*_MISSING, spec.unseen_class, str(spec.fill)}
    found = {number: label for label, number in numbers.items() if number is not None}
    n_numbers = sum(number is not None for number in numbers.values())
    is_whole = all(number is not None or label in no_value for label, number in numbers.items())
    return found if is_whole and len(found) == n_numbers else {}


def find_nulls(column: pa.Array) -> NDArray[np.bool_] | None:
    """Return which values are null, None when none is."""
    if not column.null_count:
        return None
    validity = column.buffers()[0]
    if validity is None:  # every value of a column of type null
        return np.ones(len(column), dtype=bool)
    bits = np.unpackbits(np.frombuffer(validity, np.uint8), bitorder="little", count=column.offset + len(column))
    return np.asarray(bits[column.offset :] == 0)

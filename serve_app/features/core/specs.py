"""What a feature is, and the 22 features of the purchase model.

A `FeatureSpec` says everything the encoder needs to know of one input: its kind, its unit, the
values it may take and what happens when it is null. Specs belong to the model: they are written
into the package's manifest and read back from it, so a package keeps its meaning for ever.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, Final, Literal

import pyarrow as pa

Kind = Literal["numeric", "categorical"]
Group = Literal["row", "session", "user", "key", "other"]
OnNull = Literal["reject", "nan", "fill", "fill_from"]
OnUnseen = Literal["class", "reject"]
CategoryForm = Literal["code", "native_code", "native_string"]
"""How a category reaches CatBoost: as a number (its code), as a native category that is the code
written as an integer, or as a native category that is the string itself."""

UNKNOWN_CLASS: Final = "__unknown__"
"""The class every unseen category is encoded as (convention of existing `deployed_model.pkl`)."""
NAN_LABEL: Final = "nan"
"""What a missing value is called among the classes of a LabelEncoder that was fitted with some."""
DERIVED_FILLS: Final = (NAN_LABEL, UNKNOWN_CLASS)
"""Classes that an import takes for null where nobody says which."""


@dataclass(frozen=True, slots=True)
class FeatureSpec:
    """One named input of a model.

    Attributes
    ----------
    name : str
        Column name, unique within a model.
    kind : {"numeric", "categorical"}
        Numeric columns become float32; categorical ones are looked up in a vocabulary.
    unit : str
        Unit of the value (``currency``, ``minutes``, ``events``, ``share``, ...), for people.
    group : {"row", "session", "user", "key", "other"}
        Where the value comes from: the request, the session's history, the user's history. A ``key`` is no
        input of the model, see `serve_app.features.core.row_keys`.
    on_null : {"reject", "nan", "fill", "fill_from"}
        Null rule: the row is rejected; NaN is passed to the model; `fill` is put in; or the value
        of the feature named by `fill_from` is copied (after its own null rule).
    fill : float or str or None
        Value for ``on_null="fill"``.
    fill_from : str or None
        Name of a numeric feature for ``on_null="fill_from"``.
    minimum, maximum : float or None
        Inclusive bounds of a numeric value; a value outside is rejected.
    above : float or None
        Exclusive lower bound.
    integer : bool
        True when only whole numbers are meaningful.
    form : {"code", "native_code", "native_string"}
        How a category reaches CatBoost. The model of a ``native_string`` sees every string
        unchanged, also one that the vocabulary does not list. A numeric feature of whole numbers
        may be a ``native_code`` too: CatBoost then takes each number for a category.
    on_unseen : {"class", "reject"}
        A category that the vocabulary does not list is encoded as `unseen_class`, or its row is
        rejected.
    unseen_class : str
        A class of the vocabulary, for ``on_unseen="class"``.
    description : str
        One sentence for people.
    is_declared : bool
        True when a schema says what null becomes, so that it is not what an import derived.
    """

    name: str
    kind: Kind
    unit: str
    group: Group = "other"
    on_null: OnNull = "reject"
    fill: float | str | None = None
    fill_from: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    integer: bool = False
    form: CategoryForm = "code"
    on_unseen: OnUnseen = "class"
    unseen_class: str = UNKNOWN_CLASS
    description: str = ""
    is_declared: bool = False

    @property
    def may_be_absent(self) -> bool:
        """Whether a table may lack the column: what stands for null was declared for the feature.

        NaN, and a fill that an import derived, answer a value that is not known. A column that is not there is more
        often a mistake. An import derives no other fills than `DERIVED_FILLS`, so it is known of older packages too.
        """
        is_derived = self.kind == "categorical" and self.fill in DERIVED_FILLS and not self.is_declared
        return self.on_null in {"fill", "fill_from"} and not is_derived

    @property
    def is_native(self) -> bool:
        """Whether CatBoost gets this feature as a native category and not as a number."""
        return self.form != "code"

    @property
    def is_string(self) -> bool:
        """Whether CatBoost gets this feature's strings as they are."""
        return self.form == "native_string"

    @property
    def takes_booleans(self) -> bool:
        """Whether true and false are numbers here: for a feature of 0 and 1, or of which nothing is declared.

        A price that is ``true`` is a mistake; whether a customer has a discount is not.
        """
        bounds = (self.minimum, self.maximum, self.above)
        is_flag = self.integer and bounds == (0, 1, None)
        return self.kind == "numeric" and (is_flag or (bounds == (None, None, None) and not self.integer))

    def to_json(self) -> dict[str, Any]:
        """Return the spec as a JSON object without the fields that hold their default."""
        values = ((field.name, getattr(self, field.name), field.default) for field in dataclasses.fields(self))
        return {name: value for name, value, default in values if value != default}

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> FeatureSpec:
        """Build a spec from `to_json`'s form; an unknown key raises TypeError."""
        return cls(**value)


def _row(name: str, unit: str, **rules: Any) -> FeatureSpec:
    return FeatureSpec(name, "numeric", unit, "row", **rules)


def _label(name: str, unit: str, fill: str, description: str) -> FeatureSpec:
    return FeatureSpec(name, "categorical", unit, "row", on_null="fill", fill=fill, description=description)


def _history(name: str, unit: str, group: Group, description: str, **rules: Any) -> FeatureSpec:
    null: dict[str, Any] = {"on_null": "fill"} if "fill" in rules else {"on_null": "fill_from", "fill_from": "price"}
    return FeatureSpec(name, "numeric", unit, group, minimum=0.0, description=description, **null, **rules)


# The defaults of the history features describe a shopper without history whose very first event is
# the scored row itself (every feature counts its own row once): one event, one product, one
# session, mean and sum of prices equal to this price. They are not zero, because a shopper with
# zero events cannot be looking at a product. A row without category_id adds no category, and the
# request's own category is not known to be one, so unique_categories defaults to 1 like the others.
PURCHASE_FEATURES: Final[tuple[FeatureSpec, ...]] = (
    _row("price", "currency", above=0.0, description="Price of the product in this row."),
    _row("hour", "hour of day, UTC", minimum=0, maximum=23, integer=True, description="Hour of the row, 0-23."),
    _row("day_of_week", "day, Monday=0", minimum=0, maximum=6, integer=True, description="Day of the row, 0-6."),
    _row("is_weekend", "0 or 1", minimum=0, maximum=1, integer=True, description="1 on Saturday and Sunday."),
    _history("total_events_x", "events", "session", "Events of the session so far.", fill=1.0),
    _history("unique_products", "products", "session", "Distinct products of the session so far.", fill=1.0),
    _history("unique_categories", "categories", "session", "Distinct category ids of the session so far.", fill=1.0),
    _history("avg_price", "currency", "session", "Mean price over the session's events so far."),
    _history("max_price", "currency", "session", "Highest price of the session so far."),
    _history("total_price_viewed", "currency", "session", "Sum of prices over the session's events so far."),
    _history("session_duration", "minutes", "session", "Time from the session's first event to this row.", fill=0.0),
    _history("avg_events_per_session", "events per session", "user", "Mean events over the user's sessions.", fill=1.0),
    _history("total_events_y", "events", "user", "Events of the user so far.", fill=1.0),
    _history("avg_products_per_session", "products per session", "user", "Mean distinct products.", fill=1.0),
    _history("total_products_viewed", "products", "user", "Sum of the sessions' distinct products.", fill=1.0),
    _history("avg_session_duration", "minutes", "user", "Mean duration of the user's sessions.", fill=0.0),
    _history("total_purchases", "sessions", "user", "Sessions with a purchase before this row.", fill=0.0),
    _history("total_sessions", "sessions", "user", "Sessions of the user so far.", fill=1.0),
    _history("avg_price_viewed", "currency", "user", "Mean of the sessions' mean prices."),
    _history("conversion_rate", "share", "user", "total_purchases / total_sessions.", fill=0.0, maximum=1.0),
    _label("brand", "name", "unknown", "Brand of the product."),
    _label("category_code", "dotted path", "other", "Category of the product."),
)
"""The purchase model's inputs: names and order of existing `deployed_model.pkl` packages."""

PURCHASE_NAMES: Final[tuple[str, ...]] = tuple(f.name for f in PURCHASE_FEATURES)
HISTORY_NAMES: Final[tuple[str, ...]] = tuple(f.name for f in PURCHASE_FEATURES if f.group != "row")


def arrow_schema(features: tuple[FeatureSpec, ...]) -> pa.Schema:
    """Return the Arrow schema rows of these features are built in: float64 and string columns.

    Numbers travel as float64, what JSON carries, and become float32 once, in the encoder.
    """
    kinds = {"numeric": pa.float64(), "categorical": pa.string()}
    return pa.schema([pa.field(f.name, kinds[f.kind]) for f in features])

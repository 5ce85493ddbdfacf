"""Bodies of requests and answers; also the source of the OpenAPI document."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, create_model

from serve_app.features.core.row_keys import MAX_ID_LENGTH
from serve_app.features.core.specs import HISTORY_NAMES, PURCHASE_FEATURES
from serve_app.features.core.whole_numbers import whole_text

ID_LIMIT: Final = 2**63
"""Ids that are numbers are below it: larger ones are text, which no reader of JSON rounds."""
ID_NUMBER_RULE: Final = "a whole number from 0 to 2^63-1"


def _read_float(value: Any) -> Any:
    """Turn ``5.0`` into 5; what is no whole number stays what it is, and is refused."""
    return int(value) if isinstance(value, float) and whole_text(value) else value


Id = (
    Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH)]
    | Annotated[int, BeforeValidator(_read_float), Field(ge=0, lt=ID_LIMIT)]
)
"""Ids are compared as strings; numbers are taken as they are written."""
Label = (
    Annotated[str, Field(max_length=MAX_ID_LENGTH)]
    | Annotated[int, BeforeValidator(_read_float), Field(ge=-(2**63), lt=2**64), AfterValidator(str)]
    | None
)
"""A whole number stands for its text."""
Whole = Annotated[float, Field(multiple_of=1, allow_inf_nan=False)]
"""A whole number, written ``5`` or ``5.0``: JSON knows no difference."""

EXAMPLE_REQUEST: Final[dict[str, Any]] = {
    "user_id": "541312140",
    "session_id": "72d76fde-8bb3-4e00-8c23-a032dfed738c",
    "product_id": "44600062",
    "category_code": "electronics.smartphone",
    "brand": "samsung",
    "price": 259.9,
    "hour": 12,
    "day_of_week": 1,
    "is_weekend": 0,
}


def _spell_zone(value: Any) -> Any:
    """Turn the log's ``2019-10-01 00:00:00 UTC`` into ISO 8601; numbers, which pydantic takes for times, are none."""
    if value is None:
        return None
    if not isinstance(value, str) or value[4:5] != "-":
        raise ValueError("no ISO 8601 time")
    return value.removesuffix(" UTC") + "Z" if value.endswith(" UTC") else value


def _show_example(schema: dict[str, Any]) -> None:
    schema["examples"] = [EXAMPLE_REQUEST]
    del schema["additionalProperties"]  # a client that is made from the schema is to find misspelt members itself


class _PurchaseRow(BaseModel):
    """One shopper looking at one product.

    The six row features are required but for brand and category_code, whose null is a class of its
    own. Any of the 16 history features may be given too; what is absent or null is looked up in
    the state or takes its declared default. Members that are not listed are ignored, and named by
    the header `X-Ignored-Columns`; one that is nearly called like an absent feature is refused.
    """

    model_config = ConfigDict(extra="allow", strict=True, title="PurchaseRequest", json_schema_extra=_show_example)

    user_id: Id | None = Field(description="Shopper; null when unknown. Decides the model version, stably.")
    session_id: Id = Field(description="Visit of the shopper.")
    product_id: Id = Field(description="Product that is looked at.")
    category_code: Label = Field(None, description="Dotted category path; null or absent means `other`.")
    brand: Label = Field(None, description="Brand; null or absent means `unknown`.")
    price: float = Field(gt=0, allow_inf_nan=False, description="Price of the product, above 0.")
    hour: Whole = Field(ge=0, le=23, description="Hour of day, UTC.")
    day_of_week: Whole = Field(ge=0, le=6, description="Day of week, Monday is 0.")
    is_weekend: bool | Annotated[Whole, Field(ge=0, le=1)] = Field(description="1 (or true) on Saturday and Sunday.")
    event_time: Annotated[AwareDatetime | None, BeforeValidator(_spell_zone)] = Field(
        None, strict=False, description="When the row happened, ISO 8601; ` UTC` at the end is understood."
    )
    event_id: Id | None = Field(None, description="Id of the event this row is, when it is also sent as an event.")
    category_id: Id | None = Field(
        None,
        description="Category id; null says that the product has none, absent means the one last seen for the product.",
    )
    observe: bool = Field(
        default=False,
        description="Record the row as a view once it is scored; with `event_id` it counts once, "
        "even if the event comes too.",
    )


_UNITS = {f.name: f for f in PURCHASE_FEATURES}
_history: dict[str, Any] = {
    name: (
        float | None,
        Field(
            None,
            ge=0,
            le=_UNITS[name].maximum,
            allow_inf_nan=False,
            description=f"{_UNITS[name].description} ({_UNITS[name].unit})",
        ),
    )
    for name in HISTORY_NAMES
}
PurchaseRequest: Final[type[BaseModel]] = create_model("PurchaseRequest", __base__=_PurchaseRow, **_history)
"""Body of ``POST /predict_purchase``."""


class PurchaseResponse(BaseModel):
    """The answer for one row."""

    user_id: str | int | None = Field(description="As it was sent.")
    purchase_probability: float = Field(ge=0, le=1, description="Exactly as CatBoost returned it.")
    recommendation: Literal["high", "medium", "low"] = Field(
        description="high above 0.7, medium 0.5-0.7 inclusive, low below 0.5, unless the package says otherwise."
    )


class FeatureValue(BaseModel):
    """What the model saw of one feature."""

    value: float | str | None = Field(description="The value; the class's name for categories.")
    source: Literal["request", "state", "default"]
    unseen: bool = Field(
        default=False, description="True for a category that the model was not trained on; else absent."
    )


class ExplainedFeature(BaseModel):
    """How much one feature moved the raw score."""

    feature: str
    value: float | str | None
    contribution: float = Field(description="SHAP value, in log-odds.")


class Explanation(BaseModel):
    """Why the model says so: SHAP values. All of them and the bias add up to the raw score."""

    raw_score: float = Field(description="Log-odds of the probability.")
    bias: float = Field(description="What the model says of no row in particular, in log-odds.")
    reasons: list[ExplainedFeature] = Field(description="The five features that moved it most, strongest first.")


class HistoryDetail(BaseModel):
    """What became of the row's look-up."""

    status: Literal["found", "new", "given", "no_ids", "unavailable", "off"] = Field(
        description="`found`: the user has a history; `new`: has none, the row is a first event; `given`: the "
        "request brought all 16 features; `no_ids`: there is no user; `unavailable`: the store did not "
        "answer in time, defaults were used; `off`: this service keeps no history."
    )


class Observed(BaseModel):
    """What became of a row that was to be recorded as a view."""

    status: Literal["recorded", "duplicate", "conflict", "dropped", "refused", "unavailable", "off"]
    detail: str = Field(description="Why; empty for `recorded`.")
    event_id: str = Field(description="The row's own `event_id`, or the one it was given.")


class DetailedResponse(PurchaseResponse):
    """The answer with ``?detail=true``, or ``?explain=true``."""

    prediction_id: str
    model: str
    version: int
    route_reason: str
    n_defaulted: int = Field(description="Features that took their declared default.")
    history: HistoryDetail
    observed: Observed | None = Field(None, description="With `observe`: whether the row was recorded.")
    features: dict[str, FeatureValue]
    ignored: list[str] = Field(description="Members of the request that no one here reads.")
    explanation: Explanation | None = Field(None, description="With `?explain=true`.")


class ProblemError(BaseModel):
    """One thing that is wrong with a request."""

    pointer: str = Field(description="JSON pointer into the request; empty for the whole body.")
    detail: str


class Problem(BaseModel):
    """An error, RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    request_id: str
    errors: list[ProblemError] = []


class Health(BaseModel):
    """Answer of a probe."""

    status: Literal["ok"]


class Readiness(BaseModel):
    """Answer of ``/readyz`` when the service can score."""

    status: Literal["ok"]
    model: str
    version: int


class RowRejection(ProblemError):  # noqa: N818 - a body, no exception
    """Why one row was rejected."""

    index: int = Field(ge=0)


class Predictions(BaseModel):
    """Answer of ``/invocations`` as JSON."""

    predictions: list[float | str | list[float] | None] = Field(
        description="In row order: probabilities (a list a row for several classes), values of a regression, "
        "labels or raw scores; null for rejected rows."
    )
    errors: list[RowRejection] = Field([], description="Why rows were rejected; absent when none was.")


class ShopEvent(BaseModel):
    """One line of shop history, as the published log has it; other members are ignored."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "event_time": "2019-10-01 00:00:00 UTC",
                    "event_type": "view",
                    "product_id": "44600062",
                    "category_id": "2103807459595387724",
                    "category_code": "electronics.smartphone",
                    "brand": "samsung",
                    "price": 259.9,
                    "user_id": "541312140",
                    "user_session": "72d76fde-8bb3-4e00-8c23-a032dfed738c",
                    "event_id": "e-1",
                }
            ]
        }
    )

    event_time: str | None = Field(None, description="ISO 8601 or `2019-10-01 00:00:00 UTC`; absent means on arrival.")
    event_type: Literal["view", "cart", "purchase"]
    product_id: Id
    category_id: Id | None = None
    category_code: str | None = Field(None, description="Not part of history.")
    brand: str | None = Field(None, description="Not part of history.")
    price: float = Field(gt=0)
    user_id: Id
    user_session: Id
    event_id: Id | None = Field(None, description="With it the event counts once however often it is sent.")


class EventProblem(BaseModel):
    """Why one event was not recorded."""

    index: int = Field(ge=0, description="Place in the request.")
    status: Literal["dropped", "conflict", "refused", "rejected"] = Field(
        description="`dropped`: it is no event by the rules of the log; `conflict`: another event has its id; "
        "`refused`: its time is ahead of the clock or past retention; `rejected`: a member has the wrong type."
    )
    detail: str


class EventsAnswer(BaseModel):
    """What became of the events of a request; `duplicate` ones were stored before."""

    recorded: int
    duplicate: int
    dropped: int
    conflict: int
    refused: int
    rejected: int
    errors: list[EventProblem]
    errors_omitted: int = Field(0, description="Further errors, beyond `errors_limit`; absent when there are none.")
    errors_limit: int = Field(0, description="Most errors an answer names; absent when all are named.")


class Live(BaseModel):
    """Open Inference Protocol liveness."""

    live: bool


class Ready(BaseModel):
    """Open Inference Protocol readiness."""

    ready: bool


class ServerMetadata(BaseModel):
    """Open Inference Protocol server metadata."""

    name: str
    version: str
    extensions: list[str]


class TensorMetadata(BaseModel):
    """An input or output of a model."""

    name: str
    datatype: str
    shape: list[int]


class ModelMetadata(BaseModel):
    """Open Inference Protocol model metadata."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]


class Tensor(BaseModel):
    """A tensor; with binary data, `data` is absent and `parameters` has `binary_data_size`."""

    name: str
    datatype: str
    shape: list[int]
    data: list[Any] = []
    parameters: dict[str, Any] = {}


class RequestedOutput(BaseModel):
    """An output that is asked for; `parameters` may have `binary_data`."""

    name: str
    parameters: dict[str, Any] = {}


class InferBody(BaseModel):
    """Open Inference Protocol request: one input a column; without `outputs` all usual ones are answered."""

    id: str | None = None
    inputs: list[Tensor]
    outputs: list[RequestedOutput] = []
    parameters: dict[str, Any] = {}


class InferResponse(BaseModel):
    """Open Inference Protocol answer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[Tensor]

"""One row and its answer: what a caller gives and gets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

import httpx
import orjson

from serve_app.errors import InvalidRowError, InvariantError

SATURDAY: Final = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One shopper looking at one product.

    Attributes
    ----------
    user_id : str, int or None
        Shopper; None when unknown.
    session_id, product_id : str or int
    price : float
        Above 0.
    at : datetime
        When it happened, with a zone; hour, day of week and weekend (UTC) are taken from it.
    brand, category_code : str or None
    history : mapping of str to float
        Any of the 16 history features that the caller knows.
    """

    user_id: str | int | None
    session_id: str | int
    product_id: str | int
    price: float
    at: datetime
    brand: str | None = None
    category_code: str | None = None
    history: Mapping[str, float] = field(default_factory=dict)

    def members(self) -> dict[str, Any]:
        """Return the members of the request body.

        Raises
        ------
        InvalidRowError
            `at` has no zone.
        """
        if self.at.tzinfo is None:
            raise InvalidRowError(f"the time of a row needs a zone, {self.at.isoformat()} has none")
        at = self.at.astimezone(UTC)
        return {
            **self.history,
            "user_id": self.user_id,
            "session_id": self.session_id,
            "product_id": self.product_id,
            "category_code": self.category_code,
            "brand": self.brand,
            "price": self.price,
            "hour": at.hour,
            "day_of_week": at.weekday(),
            "is_weekend": int(at.weekday() >= SATURDAY),
            "event_time": at.isoformat(),
        }


RowLike = Row | Mapping[str, Any] | bytes
"""A row, its members by name, or its JSON as bytes (sent as they are)."""


@dataclass(frozen=True, slots=True)
class Prediction:
    """The answer for one row.

    Attributes
    ----------
    probability : float
        Of a purchase, exactly as the model returned it.
    recommendation : str
        ``high``, ``medium`` or ``low``.
    user_id : str, int or None
        As it was sent.
    version : int or None
        Version of the model that answered.
    prediction_id : str or None
        Id of this score.
    request_id : str
        Id of the request, the same in the service's logs.
    detail : dict or None
        The members that ``detail=True`` adds: features and where they came from, and more.
    """

    probability: float
    recommendation: str
    user_id: str | int | None
    version: int | None
    prediction_id: str | None
    request_id: str
    detail: dict[str, Any] | None = None


def encode_row(row: RowLike) -> bytes:
    """Return a row as the JSON body of a request.

    Raises
    ------
    InvalidRowError
        A value has no form in JSON, or the row's time no zone.
    """
    if isinstance(row, bytes):
        return row
    members = row.members() if isinstance(row, Row) else dict(row)
    try:
        return orjson.dumps(members, option=orjson.OPT_SERIALIZE_NUMPY)
    except orjson.JSONEncodeError as exc:
        raise InvalidRowError(f"the row cannot be written as JSON: {exc}") from exc


def parse_prediction(response: httpx.Response) -> Prediction:
    """Parse the answer to `encode_row`.

    Raises
    ------
    InvariantError
        It is not what the service answers.
    """
    try:
        members = orjson.loads(response.content)
        probability = float(members.pop("purchase_probability"))
        recommendation = str(members.pop("recommendation"))
        user_id = members.pop("user_id")
        headers = response.headers
        version = headers.get("x-model-version")
        return Prediction(
            probability,
            recommendation,
            user_id,
            None if version is None else int(version),
            headers.get("x-prediction-id"),
            headers.get("x-request-id") or response.request.headers["x-request-id"],
            members or None,
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        url = response.request.url
        raise InvariantError(f"{url} did not answer with a prediction ({exc}): is it scorecat?") from exc

"""What a row may say beside its features, so that its history can be looked up."""

from __future__ import annotations

from typing import Final

import pyarrow as pa

from serve_app.core.features import FeatureSpec

TIME_KEY: Final = "event_time"
REQUIRED_KEYS: Final = ("user_id", "session_id", "product_id")
"""Without one of them nothing can be looked up."""
CATEGORY_KEY: Final = "category_id"
NO_CATEGORY: Final = ""
"""As a category id: the product has none, which the caller says by null; absent it is the one last seen for it."""
KEY_NAMES: Final = (*REQUIRED_KEYS, CATEGORY_KEY, "event_id", TIME_KEY)

KEY_SPECS: Final[tuple[FeatureSpec, ...]] = tuple(
    FeatureSpec(name, "categorical", "time" if name == TIME_KEY else "id", "key", on_null="fill", fill="")
    for name in KEY_NAMES
)
"""The same as columns of a table: text or whole numbers; `TIME_KEY` is ISO 8601 text or a timestamp."""

KEY_SCHEMA: Final = pa.schema([pa.field(name, pa.int64() if name == TIME_KEY else pa.string()) for name in KEY_NAMES])
"""As an Encoder gets them: ids are text, the time is in seconds since 1970 UTC."""

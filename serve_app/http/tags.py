"""Groups of operations in the OpenAPI document."""

from __future__ import annotations

from typing import Any, Final

PREDICTIONS, TABLES, INFERENCE, EVENTS, ROLLOUTS, JOBS, HEALTH = (
    "predictions", "tables", "inference protocol", "events", "rollouts", "jobs", "health",
)  # fmt: skip

TAGS: Final[list[dict[str, Any]]] = [
    {"name": PREDICTIONS, "description": "One row of a shop: will this shopper buy this product?"},
    {"name": TABLES, "description": "Many rows as JSON, CSV, Arrow or Parquet: MLflow's scoring protocol."},
    {"name": INFERENCE, "description": "Many rows as tensors, and what the model is: the Open Inference Protocol v2."},
    {"name": EVENTS, "description": "What shoppers did, for the history that later scores look up."},
    {
        "name": ROLLOUTS,
        "description": "Which versions answer whom: canaries, A/B tests, shadows, and how they end.",
    },
    {"name": JOBS, "description": "Tables that are scored in the background, file by file."},
    {"name": HEALTH, "description": "Whether the process lives, and whether it can score."},
]
"""Groups of operations; every operation has one."""

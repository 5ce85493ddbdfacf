"""The request that ``scorecat up`` shows."""

from __future__ import annotations

from typing import Final

from serve_app.core.manifest import Manifest

_ROW: Final = (
    '{"user_id":"541312140","session_id":"s-1","product_id":"1004856","category_code":"electronics.smartphone",'
    '"brand":"samsung","price":130.76,"hour":12,"day_of_week":1,"is_weekend":0}'
)


def example_command(url: str, manifest: Manifest) -> str:
    """Return a command to try: a row for the purchase model, for others the question what their rows look like."""
    if manifest.is_purchase:
        return f"curl -s {url}/predict_purchase -H 'Content-Type: application/json' \\\n  -d '{_ROW}'"
    return f"curl -s {url}/v2/models/{manifest.name}"

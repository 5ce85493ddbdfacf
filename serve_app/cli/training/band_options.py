"""The options of ``scorecat train`` that set the bands behind a recommendation."""

from __future__ import annotations

from collections.abc import Sequence

from serve_app.errors import BadRequestError
from serve_app.models.core.recommendation import Thresholds
from serve_app.training.core.bands import BandRule, Capacity, Worth


def parse_band_rule(
    medium: float | None,
    high: float | None,
    capacities: Sequence[str],
    value_of_purchase: float | None,
    cost_of_action: float | None,
) -> BandRule | None:
    """Return the rule that the options ask for; None when they say nothing.

    Raises
    ------
    BadRequestError
        Half a rule, two rules at once, or a number outside its range.
    """
    worth = _parse_worth(value_of_purchase, cost_of_action)
    if capacities and (medium is not None or high is not None):
        raise BadRequestError(
            "thresholds are set by --band-capacity or given by --threshold-medium and --threshold-high, not both"
        )
    if capacities:
        return BandRule(capacity=_parse_capacities(capacities), worth=worth)
    if medium is not None or high is not None:
        default = Thresholds()
        thresholds = Thresholds(
            default.medium if medium is None else medium, default.high if high is None else high
        )  # fmt: skip
        return BandRule(thresholds, worth=worth)
    return None if worth is None else BandRule(worth=worth, is_by_cost=True)


def _parse_worth(value_of_purchase: float | None, cost_of_action: float | None) -> Worth | None:
    if value_of_purchase is None and cost_of_action is None:
        return None
    if value_of_purchase is None or cost_of_action is None:
        raise BadRequestError("--value-of-purchase and --cost-of-action go together: give both, in one currency")
    return Worth(value_of_purchase, cost_of_action)


def _parse_capacities(texts: Sequence[str]) -> Capacity:
    shares: dict[str, float] = {}
    for text in texts:
        band, _, share = text.partition("=")
        if band not in {"high", "medium"} or band in shares:
            raise BadRequestError(f"--band-capacity {text}: write high=SHARE and medium=SHARE, each once")
        try:
            shares[band] = float(share)
        except ValueError as exc:
            raise BadRequestError(f"--band-capacity {text}: {share!r} is no number; 0.02 means the best 2 %") from exc
    if len(shares) < 2:  # noqa: PLR2004 both bands
        raise BadRequestError(
            "--band-capacity needs both bands, for example --band-capacity high=0.02 --band-capacity medium=0.1; "
            "0 keeps a band empty"
        )
    return Capacity(**shares)

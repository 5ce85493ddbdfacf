"""The invented shop behind generated logs: categories, brands, products and shoppers.

Names are made up. Shares and price quantiles are the published figures of the REES46 log, October and
November 2019.
"""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

_FLOAT = NDArray[np.float64]
_INT = NDArray[np.int64]

N_CODED_CATEGORIES: Final = 129
N_PLAIN_CATEGORIES: Final = 562
"""Category ids with and without a category_code (691 ids in all)."""

NULL_CODE_SHARE: Final = 0.322
TOP_CODE_SHARE: Final = 0.2536
NULL_BRAND_SHARE: Final = 0.139
TOP_BRAND_SHARES: Final = (0.120, 0.094, 0.070, 0.023, 0.017, 0.015, 0.014, 0.012, 0.011, 0.010)
N_BRANDS: Final = 4303
MAX_PRODUCTS: Final = 206_876
SESSIONS_PER_USER: Final = 4.33

# Quantiles 0.25, 0.5 and 0.75 and the maximum are published, the others lie on the published price
# bands (20, 100, 300, 700); 0.95 and 0.99 are set so that the mean is the published 290.
PRICE_SHARES: Final = (0.0, 0.053, 0.25, 0.342, 0.5, 0.702, 0.75, 0.886, 0.95, 0.99, 1.0)
PRICE_VALUES: Final = (0.77, 20.0, 65.98, 100.0, 162.93, 300.0, 358.57, 700.0, 1000.0, 1650.0, 2574.07)

_DEPARTMENTS: Final = ("tech", "home", "garden", "wear", "play", "pets", "office", "travel", "health", "craft")
_SECTIONS: Final = (
    "handhelds", "storage", "lighting", "tools", "textiles", "parts", "sets", "care", "covers", "stands", "kits",
    "frames", "bags",
)  # fmt: skip
_SYLLABLES: Final = (
    ("ba", "do", "fe", "gi", "ha", "jo", "ku", "la", "mi", "no", "pe", "ra", "so", "ta", "vi", "zu"),
    ("lo", "ri", "ma", "ne", "ko", "sa", "ti", "vu", "da", "pe", "go", "li", "ru", "mo", "ze", "ha"),
    ("n", "x", "ra", "tek", "va", "lin", "so", "mar", "dex", "na", "rio", "sta", "wen", "bo", "kin", "ly", "zo"),
)


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Products and what shoppers feel for them.

    Attributes
    ----------
    category_start, category_size : ndarray of int64, shape (691,)
        A category's products are consecutive; the first are looked at most.
    category_cdf : ndarray of float64, shape (691,)
        Cumulated shares of the categories among looks.
    codes : list of str
        Category code of the first 129 categories; the others have none.
    brands : list of str
    category, brand : ndarray of int64, shape (n_products,)
        Index of the category and of the brand, -1 for a product without brand.
    level : ndarray of float32, shape (n_products,)
        Share of looks that go to cheaper products, 0-1.
    price : ndarray of float64, shape (n_products,)
    appeal : ndarray of float32, shape (n_products,)
        Log-odds a product adds to being bought.
    """

    category_start: _INT
    category_size: _INT
    category_cdf: _FLOAT
    codes: list[str]
    brands: list[str]
    category: _INT
    brand: _INT
    level: NDArray[np.float32]
    price: _FLOAT
    appeal: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shoppers:
    """Users, by index.

    Attributes
    ----------
    n_sessions : ndarray of int64, shape (n_users,)
    appetite : ndarray of float32, shape (n_users,)
        Log-odds a user adds to buying.
    taste : ndarray of float32, shape (n_users,)
        Price level the user looks for, 0-1.
    favourite : ndarray of int64, shape (n_users,)
        Category the user comes back to.
    """

    n_sessions: _INT
    appetite: NDArray[np.float32]
    taste: NDArray[np.float32]
    favourite: _INT


def choose_catalogue(rng: np.random.Generator, n_events: int) -> Catalogue:
    """Invent a catalogue whose size fits a log of `n_events`; its prices wait for `fit_prices`."""
    shares = _category_shares()
    n_products = int(np.clip(60 * np.sqrt(n_events), 1000, MAX_PRODUCTS))
    size = np.maximum(1, np.round(n_products * shares**0.75 / (shares**0.75).sum())).astype(np.int64)
    start = np.cumsum(size) - size
    category = np.repeat(np.arange(len(size)), size)
    rank = np.arange(len(category)) - start[category]
    looks = shares[category] * (np.sqrt(rank + 1) - np.sqrt(rank)) / np.sqrt(size[category])
    brand = _choose_brands(rng, looks)
    category_cost = rng.normal(0, 0.9, len(size))
    category_cost[0] = 0.8
    brand_cost = rng.normal(0, 0.5, N_BRANDS + 1)
    cost = category_cost[category] + brand_cost[brand] + rng.normal(0, 0.6, len(category))
    level = _weighted_rank(cost, looks)
    category_appeal = rng.normal(0, 0.45, len(size))
    category_appeal[0] = 0.6
    brand_appeal = rng.normal(0, 0.45, N_BRANDS + 1)
    appeal = category_appeal[category] + brand_appeal[brand] + rng.normal(0, 0.35, len(category))
    appeal -= looks @ appeal / looks.sum()
    return Catalogue(
        category_start=start,
        category_size=size,
        category_cdf=np.cumsum(shares) / shares.sum(),
        codes=[f"{d}.{s}" for s, d in itertools.product(_SECTIONS, _DEPARTMENTS)][:N_CODED_CATEGORIES],
        brands=["".join(parts) for parts in itertools.product(*_SYLLABLES)][:N_BRANDS],
        category=category,
        brand=brand,
        level=level.astype(np.float32),
        price=np.full(len(category), PRICE_VALUES[0]),
        appeal=appeal.astype(np.float32),
    )


def fit_prices(catalogue: Catalogue, looks: _INT) -> Catalogue:
    """Return the catalogue with prices that have the published quantiles over looks as they really fall."""
    n_looks = np.bincount(looks, minlength=len(catalogue.price)) + 1e-3
    price = np.exp(np.interp(_weighted_rank(catalogue.level, n_looks), PRICE_SHARES, np.log(PRICE_VALUES)))
    return dataclasses.replace(catalogue, price=np.maximum(np.round(price, 2), PRICE_VALUES[0]))


def choose_shoppers(rng: np.random.Generator, n_sessions: int, appetite_sd: float, loyalty: float) -> Shoppers:
    """Invent users who come `n_sessions` times in all, or a few times more.

    `loyalty` is how much of the appetite's spread goes with coming often.
    """
    n_users = max(1, round(n_sessions / SESSIONS_PER_USER))
    # Negative binomial: most come once or twice, few very often.
    rate = rng.gamma(0.42, (SESSIONS_PER_USER - 1) / 0.42, n_users)
    counts = 1 + rng.poisson(rate)
    often = np.log(counts)
    often = (often - often.mean()) / max(float(often.std()), 1e-9)
    appetite = appetite_sd * (loyalty * often + np.sqrt(1 - loyalty**2) * rng.normal(0, 1, n_users))
    return Shoppers(
        n_sessions=counts,
        appetite=appetite.astype(np.float32),
        taste=rng.uniform(*_TASTES, n_users).astype(np.float32),
        favourite=np.searchsorted(np.cumsum(_category_shares()), rng.random(n_users)).clip(0, _N_CATEGORIES - 1),
    )


_TASTES: Final = (-0.15, 1.15)
_N_CATEGORIES: Final = N_CODED_CATEGORIES + N_PLAIN_CATEGORIES


def _category_shares() -> _FLOAT:
    coded = (np.arange(N_CODED_CATEGORIES - 1) + 4.0) ** -1.4
    plain = (np.arange(N_PLAIN_CATEGORIES) + 4.0) ** -1.1
    rest = 1 - NULL_CODE_SHARE - TOP_CODE_SHARE
    return np.concatenate([[TOP_CODE_SHARE], rest * coded / coded.sum(), NULL_CODE_SHARE * plain / plain.sum()])


def _choose_brands(rng: np.random.Generator, looks: _FLOAT) -> _INT:
    tail = (np.arange(N_BRANDS - len(TOP_BRAND_SHARES)) + 10.0) ** -1.0
    rest = 1 - NULL_BRAND_SHARE - sum(TOP_BRAND_SHARES)
    edges = np.cumsum(np.concatenate([[NULL_BRAND_SHARE], TOP_BRAND_SHARES, rest * tail / tail.sum()]))
    # Products in random order, laid end to end by their looks, and cut at the brands' shares: brands
    # get their share of looks whichever products are popular.
    brand = _weighted_rank(rng.random(len(looks)), looks)
    indices: _INT = np.searchsorted(edges, brand * edges[-1]).clip(0, N_BRANDS) - 1
    return indices


def _weighted_rank(value: NDArray[Any], weight: NDArray[Any]) -> _FLOAT:
    """Return for each value the share of weight below it, half of its own included."""
    order = np.argsort(value, kind="stable")
    total = np.cumsum(weight[order])
    out = np.empty(len(value))
    out[order] = (total - weight[order] / 2) / total[-1]
    return out

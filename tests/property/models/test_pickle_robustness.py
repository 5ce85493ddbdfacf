"""Whatever bytes come, a pickle is read, refused or called broken: nothing else happens."""

from __future__ import annotations

import io
import pickle
import random
import sys

import joblib
import pytest

from serve_app.models.untrusted.pickle_content import read_content
from serve_app.models.untrusted.pickle_vm import MalformedError, RefusedError, load_inert
from tests.testing_kit.deployments.deployed import train_deployed

pytestmark = pytest.mark.property


@pytest.fixture(scope="module")
def files() -> list[bytes]:
    document = train_deployed(n_trees=1).document
    whole = [pickle.dumps(document, protocol=p) for p in (0, 2, 5)]
    buffer = io.BytesIO()
    joblib.dump(document, buffer)
    return [*whole, buffer.getvalue()]


def mutate(data: bytes, chance: random.Random) -> bytes:
    # Most of a file is the model's bytes, where nothing can happen: change its ends.
    broken = bytearray(data)
    for _ in range(chance.choice([1, 1, 3, 10])):
        near = chance.choice([chance.randrange(min(300, len(broken))), -1 - chance.randrange(min(1_500, len(broken)))])
        change = chance.choice(["flip", "set", "cut", "repeat", "opcode"])
        if change == "flip":
            broken[near] ^= 1 << chance.randrange(8)
        elif change == "set":
            broken[near] = chance.randrange(256)
        elif change == "opcode":
            broken[near] = chance.choice(b"Rbcio\x81\x92\x93QPaeusd.0(]})h\x94\x95\x97\x98")
        elif change == "cut":
            del broken[near : near + chance.randrange(1, 20) or None]
        else:
            broken[near:near] = broken[near - 20 : near]
    return bytes(broken)


@pytest.mark.parametrize("seed", range(8))
def test_a_damaged_pickle_is_read_refused_or_called_broken(files, seed):
    chance = random.Random(seed)
    before = set(sys.modules)
    outcomes = {"read": 0, RefusedError: 0, MalformedError: 0, MemoryError: 0}
    for _ in range(120):
        data = mutate(chance.choice(files), chance)
        try:
            read_content(load_inert(io.BytesIO(data)))
        except (RefusedError, MalformedError, MemoryError) as exc:  # a length may be a lie
            outcomes[type(exc)] += 1
        else:
            outcomes["read"] += 1
    assert {name for name in set(sys.modules) - before if not name.startswith("encodings.")} == set()
    assert outcomes[MalformedError] > 10

"""What counting inputs costs an Encoder, beside what encoding costs: ``python -m benchmarks.inputs``."""

from __future__ import annotations

import asyncio
import os
import pickle
import tempfile
import time
from collections.abc import Callable

from serve_app.cluster.environment import SHARED_ARRAYS
from serve_app.deployments.calls.handles import TABLE_ROWS
from serve_app.deployments.calls.shared_arrays import PackedBatch, pack, remove, reserve
from serve_app.deployments.meters import InputMeter
from serve_app.features.core.encoding import EncodedBatch, FeatureEncoder
from serve_app.features.core.specs import PURCHASE_FEATURES, PURCHASE_NAMES
from tests.testing_kit import VOCABULARIES, random_rows

SIZES = (1, 8, 64, 1_024, 16_384)


class Increment:
    """Takes what an increment of Ray's counter takes, about 8 us."""

    def inc(self, value: float, tags: dict[str, str]) -> None:  # noqa: ARG002
        until = time.perf_counter() + 8e-6
        while time.perf_counter() < until:
            pass


def measure(function: Callable[[], object], n_times: int) -> float:
    """Return the microseconds of one call, the best of seven rounds."""
    rounds = []
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(n_times):
            function()
        rounds.append((time.perf_counter() - start) / n_times)
    return min(rounds) * 1e6


async def main() -> None:
    encoder = FeatureEncoder(PURCHASE_FEATURES, VOCABULARIES)
    print("| rows a batch | unpack, encode, pack, us | count, us | share |")
    print("|---|---|---|---|")
    for size in SIZES:
        packed = PackedBatch.of(random_rows(size, null_share=0.8))

        def encode(packed: PackedBatch = packed) -> bytes:
            """What the replica does: small answers travel in the call, large ones through shared memory."""
            encoded = encoder.encode(packed.unpack())
            path = reserve() if encoded.matrix.shape[0] >= TABLE_ROWS else None
            answer = pickle.dumps(pack(encoded.for_model if path else encoded, path), protocol=5)
            remove(path)
            return answer

        encoded = encoder.encode(packed.unpack())
        meter = InputMeter(PURCHASE_NAMES, "purchase", 1, lambda _: Increment())
        encode_us = measure(encode, max(3, 2_000 // size))
        n_batches = int(1e6 / encode_us)  # a second's worth at full load: of so much Ray is told at once

        def count(meter: InputMeter = meter, batches: list[EncodedBatch] = [encoded] * n_batches) -> None:
            for batch in batches:
                meter.note(batch)
            meter.flush()

        count_us = measure(count, 1) / n_batches
        print(f"| {size:,} | {encode_us:,.0f} | {count_us:.2f} | {count_us / encode_us:.1%} |")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        os.environ[SHARED_ARRAYS] = folder
        asyncio.run(main())

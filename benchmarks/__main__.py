"""All benchmarks, one after the other: ``make bench`` or ``python -m benchmarks``."""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import features, generate

BENCHMARKS = {"generator": generate.main, "features of a whole log": features.main}


def main():
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    sys.argv = sys.argv[:1]
    for name, run in BENCHMARKS.items():
        print(f"\n{name}")
        run()


if __name__ == "__main__":
    main()

"""All benchmarks, one after the other: ``make bench`` or ``python -m benchmarks``.

Arguments go to the online benchmark: ``make bench ARGS="--rounds 5 --json bench.json"``.
"""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import features, generate, online, state

OFFLINE = {"generator": generate.main, "features of a whole log": features.main, "live history": state.main}


def main():
    arguments = sys.argv[1:]
    online.parse_options(arguments)  # a wrong argument is refused before the work, not after it
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    sys.argv = sys.argv[:1]
    for name, run in OFFLINE.items():
        print(f"\n{name}")
        run()
    sys.argv += arguments
    print("\nonline", flush=True)
    online.main()


if __name__ == "__main__":
    main()

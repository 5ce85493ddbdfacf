"""All benchmarks, one after the other: ``make bench`` or ``python -m benchmarks``.

Arguments go to the online benchmark, those after ``--`` to that of batch jobs:
``make bench ARGS="--rounds 5 --json bench.json -- --rows 1,5"``.
"""

from __future__ import annotations

import os
import platform
import sys

from benchmarks import batch, features, generate, online, state

OFFLINE = {"generator": generate.main, "features of a whole log": features.main, "live history": state.main}


def main():
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments, of_batch = sys.argv[1:at], sys.argv[at + 1 :]
    online.parse_options(arguments)  # a wrong argument is refused before the work, not after it
    batch.parse_options(of_batch)
    print(f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}")
    sys.argv = sys.argv[:1]
    for name, run in OFFLINE.items():
        print(f"\n{name}")
        run()
    for name, run, chosen in (("online", online.main, arguments), ("batch jobs", batch.main, of_batch)):
        sys.argv[1:] = chosen
        print(f"\n{name}", flush=True)
        run()


if __name__ == "__main__":
    main()

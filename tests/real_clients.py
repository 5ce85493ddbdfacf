"""Clients and writers of others against a running service: ``python -m tests.real_clients [pytest options]``.

The service runs in this environment, `tests/clients` in one of its own, `.venv-clients`, whose packages need not
agree with the service's.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from serve_app.models.adapters.registry_folder import DirectoryRegistry
from tests.testing_kit import make_package
from tests.testing_kit.cluster.service_process import SCORECAT, ServiceProcess

ROOT: Final = Path(__file__).parents[1]
PYTHON: Final = ROOT / ".venv-clients" / "bin" / "python"
FOLDER: Final = ROOT / "tests" / "clients"


def main() -> int:
    """Start a service with a small real model, run the tests against it, stop it; return pytest's exit code."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # stops the service too
    with tempfile.TemporaryDirectory(prefix="scorecat-clients-") as folder:
        service = ServiceProcess(Path(folder) / "home")
        registry = DirectoryRegistry(service.home / "registry")
        make_package(Path(folder) / "package")
        registry.move_alias("purchase", "champion", registry.publish("purchase", Path(folder) / "package"))
        try:
            service.up()
            return subprocess.run(
                [PYTHON, "-m", "pytest", "-c", FOLDER / "pytest.ini", *(sys.argv[1:] or [FOLDER])],
                cwd=ROOT,
                env={**service.environment, "SERVICE_URL": service.url, "SCORECAT": str(SCORECAT)},
                check=False,
            ).returncode
        finally:
            service.down()


if __name__ == "__main__":
    sys.exit(main())

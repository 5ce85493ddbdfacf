"""Where the command ``scorecat`` begins: its imports take a second, in which Ctrl-C ends it without a traceback."""

from __future__ import annotations

import sys


def main() -> None:
    """Run a command, see `serve_app.cli.main`."""
    try:
        from serve_app.cli import main as run  # noqa: PLC0415 - inside the try
    except KeyboardInterrupt:
        sys.exit(130)
    run()

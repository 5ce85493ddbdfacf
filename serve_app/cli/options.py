"""Options and arguments of several commands."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

UrlOption = Annotated[
    str | None, typer.Option("--url", help="Service; default the one that `scorecat up` started here.")
]
LogArgument = Annotated[Path, typer.Argument(help="CSV (also .gz) or Parquet file of events, or a directory of them.")]

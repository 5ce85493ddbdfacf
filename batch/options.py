"""The options of a batch job, the same for ``python -m batch.score`` and ``scorecat score``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Pool(StrEnum):
    """Which replicas score."""

    SHARED = "shared"
    DEDICATED = "dedicated"


InputArgument = Annotated[
    str,
    typer.Argument(
        help="Parquet, CSV or JSON lines (.parquet .csv .csv.gz .jsonl .jsonl.gz), or a folder; s3://, gs:// too."
    ),
]
OutputArgument = Annotated[str, typer.Argument(help="Folder for the result; new, or with --resume the same as before.")]
ModelOption = Annotated[
    str | None, typer.Option(help="Model that scores: name, name@version or name@alias; default purchase@champion.")
]
MappingOption = Annotated[
    Path | None,
    typer.Option(help="YAML file: `columns` (feature: input column) and `defaults` (features without one)."),
]
KeepOption = Annotated[
    str | None,
    typer.Option(help="Input columns to carry to the output, by comma; '*' for all. Default all that are no feature."),
]
PartitionOption = Annotated[
    str | None, typer.Option("--partition-by", help="Columns of the output, by comma, whose values become folders.")
]
ExplainOption = Annotated[
    int, typer.Option(min=0, max=50, help="Add the features that moved each score most, this many. About 50 us a row.")
]
MaxRejectedOption = Annotated[
    str, typer.Option(help="Rejected rows (1000) or share of the rows (2%) beyond which the job stops.")
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that read and write; default one for every two CPUs, at most 8.")
]
PatienceOption = Annotated[
    float, typer.Option("--patience-s", min=1.0, help="How long a batch waits for replicas that are lost, seconds.")
]
PoolOption = Annotated[
    Pool,
    typer.Option(help="shared: the version's own replicas, behind online rows. dedicated: a copy for this job alone."),
]
PoolReplicasOption = Annotated[
    int | None, typer.Option(min=1, help="Most replicas of each deployment of a dedicated pool; default one a CPU.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Go on with the job that was begun in OUTPUT.")]
DEFAULT_LIMIT = "10%"
DEFAULT_PATIENCE_S = 120.0


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Return the names of a list by comma, None for none."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())

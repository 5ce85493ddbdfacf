"""The options of a batch job, the same for ``python -m batch.score`` and ``scorecat score``.

Nothing has a default here: what is not said is as usual, and in a resumed job as it was begun.
"""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from batch.jobs.asked import DEFAULT_LIMIT, DEFAULT_PATIENCE_S, Asked
from batch.view import make_absolute
from serve_app.errors import InvalidDataError
from serve_app.storage.document_file import load_document


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
    str | None,
    typer.Option(help="Model that scores: name, name@version or name@alias; default: the champion of what is served."),
]
MappingOption = Annotated[
    Path | None,
    typer.Option(
        help="YAML file: `columns` (feature: input column), `defaults` (features without one), `history: true` (look "
        "up history features without one)."
    ),
]
KeepOption = Annotated[
    str | None,
    typer.Option(help="Input columns to carry to the output, by comma; '*' for all. Default all that are no feature."),
]
PartitionOption = Annotated[
    str | None, typer.Option("--partition-by", help="Columns of the output, by comma, whose values become folders.")
]
ExplainOption = Annotated[
    int | None,
    typer.Option(min=0, max=50, help="Add the features that moved each score most, this many. About 50 us a row."),
]
MaxRejectedOption = Annotated[
    str | None,
    typer.Option(
        help=f"Rejected rows (1000) or share of the rows (2%) beyond which the job stops; default {DEFAULT_LIMIT}."
    ),
]
WorkersOption = Annotated[
    int | None, typer.Option(min=1, help="Processes that read and write; default one for every two CPUs, at most 8.")
]
PatienceOption = Annotated[
    float | None,
    typer.Option(
        "--patience-s",
        min=1.0,
        help=f"How long a batch waits for replicas that are lost, seconds; default {DEFAULT_PATIENCE_S:g}.",
    ),
]
PoolOption = Annotated[
    Pool | None,
    typer.Option(
        help="shared, the default: the version's own replicas, behind online rows. dedicated: a copy for this job."
    ),
]
PoolReplicasOption = Annotated[
    int | None, typer.Option(min=1, help="Most replicas of each deployment of a dedicated pool; default one a CPU.")
]
ResumeOption = Annotated[
    bool,
    typer.Option(
        "--resume", help="Go on with the job that was begun in OUTPUT; options that are left out stay as then."
    ),
]


def split_names(text: str | None) -> tuple[str, ...] | None:
    """Return the names of a list by comma, None for none."""
    return None if text is None else tuple(name.strip() for name in text.split(",") if name.strip())


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a mapping file; raises NotFoundError, InvalidDataError."""
    found = load_document(path, "--mapping")
    if not isinstance(found, dict):
        raise InvalidDataError(
            f"--mapping {path} must be a table with `columns`, `defaults` or `history`, see docs/batch.md"
        )
    return found


def read_asked(
    source: str,
    model: str | None,
    mapping: Path | None,
    keep: str | None,
    partition_by: str | None,
    explain: int | None,
) -> Asked:
    """Return what the options ask for; raises NotFoundError, InvalidDataError for a mapping that cannot be read."""
    content = None if mapping is None else read_mapping(mapping)
    return Asked(make_absolute(source), model, content, split_names(keep), split_names(partition_by), explain)

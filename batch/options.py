"""The options of a batch job, the same for ``python -m batch.score`` and ``scorecat score``.

Nothing has a default here: what is not said is as usual, and in a resumed job as it was begun.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from batch.view import make_absolute, name_program
from serve_app.errors import InvalidDataError
from serve_app.jobs.core.record import resume_command
from serve_app.jobs.core.spec import DEFAULT_LIMIT, DEFAULT_PATIENCE_S, JobSpec
from serve_app.storage.document_file import load_document
from serve_app.terminal.console import JsonOption

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
    Literal["shared", "dedicated"] | None,
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
    with contextlib.suppress(ValueError, TypeError, RecursionError):  # a cycle, or names that JSON has none of
        plain = json.loads(json.dumps(found, default=str))  # as records hold it: a date of YAML is text
        if isinstance(plain, dict):
            return plain
    raise InvalidDataError(
        f"--mapping {path} must be a table with `columns`, `defaults` or `history`, see docs/batch.md"
    )


def takes_spec(run: Callable[[JobSpec, Path | None, str, bool], None]) -> Callable[..., None]:
    """Return a command with the arguments and options of a batch job, and the words of `run`.

    Parameters
    ----------
    run : callable
        ``run(spec, mapping, go_on, as_json)``: what was said, the file of its mapping, and the command that resumes
        the job as it is typed here.
    """

    def command(
        input: InputArgument,  # noqa: A002 - the name people read in --help
        output: OutputArgument,
        model: ModelOption = None,
        mapping: MappingOption = None,
        keep: KeepOption = None,
        partition_by: PartitionOption = None,
        explain: ExplainOption = None,
        max_rejected: MaxRejectedOption = None,
        workers: WorkersOption = None,
        patience_s: PatienceOption = None,
        pool: PoolOption = None,
        pool_replicas: PoolReplicasOption = None,
        resume: ResumeOption = False,
        as_json: JsonOption = False,
    ) -> None:
        content = None if mapping is None else read_mapping(mapping)
        spec = JobSpec(
            make_absolute(input), make_absolute(output), model or "", mapping=content, keep=split_names(keep),
            partition_by=split_names(partition_by), explain=explain, max_rejected=max_rejected, workers=workers,
            patience_s=patience_s, pool=pool, pool_replicas=pool_replicas, resume=resume,
        )  # fmt: skip
        run(spec, mapping, resume_command(input, output, name_program()), as_json)

    command.__doc__ = run.__doc__
    return command

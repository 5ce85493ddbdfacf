"""Batch jobs without Ray: files of rows, and a scorer of units over local replicas."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch.jobs.prepare import JobPlan, begin_plan, draft_plan
from batch.jobs.unit import UnitScorer
from batch.storage.row_files import RowFiles
from batch.transforms.pace import Pace
from batch.transforms.results import ResultColumns
from serve_app.features.core.encoding import FeatureEncoder
from serve_app.jobs.adapters.output_folder import OutputFolder
from serve_app.jobs.core.commits import Commit, UnitTally
from serve_app.jobs.core.spec import JobSpec
from serve_app.models.service.ports import Package
from tests.testing_kit.deployments.replicas import Before, LocalEncoder, LocalModel
from tests.testing_kit.models.package import random_rows
from tests.testing_kit.rollouts.virtual_time import run_virtual


def make_rows(n: int, seed: int = 0, first_id: int = 0) -> pa.Table:
    """Rows with every feature and the columns ``order_id`` and ``user_id`` before them."""
    rows = random_rows(n, seed)
    ids = pa.array(np.arange(first_id, first_id + n))
    users = pa.array([f"u{k % 7:03d}" for k in range(n)])
    return pa.table({"order_id": ids, "user_id": users, **{name: rows.column(name) for name in rows.schema.names}})


def write_rows(folder: Path, n_files: int, n_rows: int, group_rows: int = 100) -> list[pa.Table]:
    """Write Parquet files ``rows-0.parquet`` … and return their tables."""
    folder.mkdir(parents=True, exist_ok=True)
    tables = [make_rows(n_rows, seed, seed * n_rows) for seed in range(n_files)]
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"rows-{number}.parquet", row_group_size=group_rows)
    return tables


def spoil(table: pa.Table, rows: Sequence[int], column: str = "price", value: float = -1.0) -> pa.Table:
    """Return the table with a value that the encoder rejects in some rows."""
    values = table.column(column).to_pylist()
    for row in rows:
        values[row] = value
    at = table.schema.get_field_index(column)
    return table.set_column(at, column, pa.array(values, table.schema.field(column).type))


class LocalJob:
    """A planned job whose units are scored in this process, one after the other."""

    def __init__(
        self,
        package: Package,
        source: Path | str,
        output: Path | str,
        *,
        plan: JobPlan | None = None,
        batch_rows: int = 50,
        unit_rows: int = 200,
        chunk_rows: int = 200,
        before_encode: Before | None = None,
        before_predict: Before | None = None,
        **said: Any,
    ) -> None:
        self.package = package
        self.output = OutputFolder(str(output))
        manifest = package.manifest
        self.spec = JobSpec(str(source), **said)
        self.plan = plan or draft_plan(self.spec, self.output, "purchase", 1, manifest, unit_rows)
        if plan is None:
            begin_plan(self.plan, self.output)
        self.tally = UnitTally(self.plan.units)
        self.encoder = LocalEncoder(FeatureEncoder(manifest.features, package.vocabularies), before_encode)
        self.model = LocalModel(package.model, before_predict)
        self.scorer = UnitScorer(
            columns=self.plan.columns,
            files=RowFiles(str(source), self.plan.columns, self.plan.schema, manifest.features, batch_rows),
            output=self.output,
            results=ResultColumns(manifest, 1, self.plan.spec.explain or 0),
            encoder=self.encoder,
            model=self.model,
            pace=Pace(4),
            partition_by=self.plan.spec.partition_by or (),
            chunk_rows=chunk_rows,
            in_thread=_run_here,
        )

    def score(self, number: int) -> list[Commit]:
        """Score one unit in virtual time."""
        commits = run_virtual(self.scorer.score(self.plan.units[number]))
        self.tally.add(commits)
        return commits

    def run(self) -> dict[str, Any]:
        """Score every unit and return the summary's rows."""
        for unit in self.plan.units:
            self.score(unit.number)
        return self.tally.to_summary()


async def _run_here(function: Any, *arguments: Any, **named: Any) -> Any:
    await asyncio.sleep(0)
    return function(*arguments, **named)


def read_output(folder: Path | str) -> pa.Table:
    """Return the scored rows of an output folder in the order of its parts."""
    parts = sorted(Path(folder).rglob("part-*.parquet"), key=lambda p: p.name)
    return pa.concat_tables([pq.read_table(p) for p in parts if "_rejected" not in p.parts])


def read_rejected(folder: Path | str) -> list[dict[str, Any]]:
    """Return the rejected rows of an output folder."""
    parts = sorted((Path(folder) / "_rejected").glob("*.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]

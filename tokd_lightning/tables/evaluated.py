"""Side-by-side table of runs evaluated on data sets, with the columns of Table 7."""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

_COLUMNS = {
    "acc": "acc",
    "bal. acc": "balanced_acc",
    "AUC": "auc",
    "EER": "eer",
    "majority": "majority",
}


def evaluation_table(records: Sequence[dict[str, Any]]) -> RenderableType:
    """Return a table of evaluations: a line per run, then one per data set and level, in percent.

    Args:
        records: Values of ``Run.evaluations()``; those of one run must be adjacent.
    """
    wide = max((len(data_of(record)) for record in records), default=0)
    head = _columns(wide)
    parts: list[RenderableType] = [head]
    for run, its in groupby(records, key=lambda record: str(record["run"])):
        parts.append(Text(f" {run}", overflow="fold"))
        body = _columns(wide, show_header=False)
        for record in its:
            for level in ("frame", "video"):
                _add(body, record, level)
        parts.append(body)
    return Group(*parts)


def _columns(wide: int, **options: Any) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False, **options)
    table.add_column("  in percent", width=max(wide + 2, 12), no_wrap=True)
    table.add_column("of", justify="right", width=16)
    for column in _COLUMNS:
        table.add_column(column, justify="right", width=max(6, len(column)))
    return table


def _add(table: Table, record: dict[str, Any], level: str) -> None:
    keys = (f"{record['split']}/{level}/{metric}" for metric in _COLUMNS.values())
    values = [record["metrics"].get(key) for key in keys]
    table.add_row(
        escape(f"  {data_of(record)}") if level == "frame" else "",
        _number(record["counts"], level),
        *("–" if value is None else f"{100 * value:.2f}" for value in values),
    )


def _number(counts: dict[str, Any], level: str) -> str:
    """Return the number scored and, if only a part of the videos was, the number listed."""
    listed = counts.get("videos_listed") if level == "video" else None
    return f"{counts[f'{level}s']}{f' of {listed}' if listed else ''} {level}s"


def data_of(record: dict[str, Any]) -> str:
    """Return the data set, quality and split of an evaluation, for display."""
    data = record["data"]
    label = f"{data['name']}-{data['quality']}"
    said = [label, *([record["split"]] if record["split"] != "test" else [])]
    return ", ".join(
        [*said, *(["synthetic"] if data["synthetic"] and "synth" not in label else [])]
    )

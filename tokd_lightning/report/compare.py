"""Side-by-side comparison of runs: measured sizes (Table 1) and accuracies (Table 3)."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from tokd_lightning.files import write_text
from tokd_lightning.report.curves import draw_gradients, draw_training, read_curves
from tokd_lightning.report.frames import markdown_table
from tokd_lightning.report.rows import Row, distinct_labels, majority_rows, rank, read_row
from tokd_lightning.runs.provenance import comparable_data

_METRICS = {
    "acc": "test/frame/acc",
    "balanced acc": "test/frame/balanced_acc",
    "AUC": "test/frame/auc",
    "EER": "test/frame/eer",
    "video AUC": "test/video/auc",
}


class Comparison(NamedTuple):
    """Runs side by side, in the order of the paper's tables.

    Attributes:
        title: What the table shows.
        lines: One row per run, then the majority baselines.
        table: The same as texts, under the columns shown.
        notes: Caveats for readers of the table.
    """

    title: str
    lines: list[Row]
    table: pd.DataFrame
    notes: list[str]

    def markdown(self) -> str:
        """Return the table as Markdown."""
        notes = (f"\n{note}" for note in self.notes)
        return "\n".join([f"**{self.title}**", "", markdown_table(self.table), *notes]) + "\n"


def side_by_side(folders: Sequence[Path]) -> Comparison:
    """Read runs and compare them side by side.

    Args:
        folders: Run folders, in any order.

    Raises:
        TokdError: A folder is not a run folder, or its ``metrics.json`` is unreadable.
    """
    distinct = {folder.resolve(): folder for folder in folders}.values()
    rows = distinct_labels(sorted((read_row(folder) for folder in distinct), key=rank))
    lines = [*rows, *majority_rows(rows)]
    heads, texts = ["M params", "GMACs", *_METRICS], [_cells(row) for row in lines]
    table = pd.DataFrame([cells[1:] for cells in texts], [cells[0] for cells in texts], heads)
    what = " of the synthetic mini-FF++" if any(row.synthetic for row in rows) else ""
    return Comparison(f"Test split{what}, frame level, in percent", lines, table, _notes(rows))


def compare_runs(
    folders: Sequence[Path], out: Path, console: Console | None = None
) -> dict[str, Path]:
    """Print a side-by-side comparison of runs and write the table and the figures.

    Args:
        folders: Run folders, in any order.
        out: Folder for ``compare.{md,csv,json}``, ``curves.png`` and, if a run has gradients of
            both branches, ``gradients.png``.
        console: Console to print to; standard output by default.

    Returns:
        Path of each file by its name, without the figures that no run has data for.

    Raises:
        TokdError: A folder is not a run folder, or ``metrics.json`` or ``metrics.csv`` is
            unreadable.
    """
    found = side_by_side(folders)
    curves = {row.label: read_curves(Path(row.folder)) for row in found.lines if row.folder}
    _print(found, console or Console())
    whole = {"title": found.title, "rows": [asdict(r) for r in found.lines], "notes": found.notes}
    texts = {
        "compare.md": found.markdown(),
        "compare.csv": _flat(found.lines).to_csv(index=False),
        "compare.json": json.dumps(whole, indent=2) + "\n",
    }
    for name, text in texts.items():
        write_text(out / name, text)

    about = "synthetic mini-FF++" if any(row.synthetic for row in found.lines) else ""
    drawn = {"curves.png": draw_training, "gradients.png": draw_gradients}
    figures = [name for name, draw in drawn.items() if draw(curves, out / name, about)]
    return {name: out / name for name in (*texts, *figures)}


def _cells(row: Row) -> list[str]:
    sizes = [
        "–" if row.parameters is None else f"{row.parameters / 1e6:.2f}",
        "–" if row.macs is None else f"{row.macs / 1e9:.3f}",
    ]
    values = [row.metrics.get(key) for key in _METRICS.values()]
    metrics = ["–" if value is None else f"{100 * value:.2f}" for value in values]
    label = row.label if row.state == "tested" else f"{row.label} ({row.state})"
    return [label, *sizes, *metrics]


def _notes(rows: Sequence[Row]) -> list[str]:
    """Return the caveats for readers of the table."""
    notes = []
    for data in dict.fromkeys(row.data for row in rows if row.state == "tested"):
        tested = [row for row in rows if row.data == data and row.state == "tested"]
        hashes = comparable_data([row.data_hashes for row in tested])
        majorities = [row.metrics.get("test/frame/majority") for row in tested]
        if len(set(zip(hashes, majorities, strict=True))) > 1:
            notes.append(f"The runs on {data} were not tested on the same frames.")
    if waiting := [row.run for row in rows if row.state != "tested"]:
        notes.append(f"No test yet: {', '.join(waiting)} (tokd test).")
    return notes


def _print(found: Comparison, console: Console) -> None:
    caption = "\n".join(found.notes) or None
    shown = Table(title=found.title, caption=caption, box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.title_justify = shown.caption_justify = "left"
    shown.add_column("")
    for head, column in found.table.items():
        words = str(head).split()
        width = max([*column.str.len(), *map(len, words)])
        shown.add_column(str(head), justify="right", width=width)
    for label, *cells in found.table.itertuples():
        shown.add_row(label, *cells)
    console.print(shown)


def _flat(rows: Sequence[Row]) -> pd.DataFrame:
    """Flatten rows for a spreadsheet: full precision, one column per metric, empty if undefined."""
    return (
        pd.DataFrame(asdict(row) | row.metrics for row in rows)
        .drop(columns="metrics")
        .convert_dtypes(convert_floating=False)
    )

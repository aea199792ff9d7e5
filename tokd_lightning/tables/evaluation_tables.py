"""Terminal tables of evaluations: metrics as in Table 7, calibration, thresholds, robustness."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

NOTHING = "–"
LEVELS = ("frame", "video")
Record = dict[str, Any]
_COLUMNS = {
    "acc": "acc",
    "bal. acc": "balanced_acc",
    "AUC": "auc",
    "EER": "eer",
    "majority": "majority",
}


def evaluation_table(records: Sequence[Record]) -> RenderableType:
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


def _add(table: Table, record: Record, level: str) -> None:
    keys = (f"{record['split']}/{level}/{metric}" for metric in _COLUMNS.values())
    values = [record["metrics"].get(key) for key in keys]
    table.add_row(
        escape(f"  {data_of(record)}") if level == "frame" else "",
        _number(record["counts"], level),
        *("–" if value is None else f"{100 * value:.2f}" for value in values),
    )


def _number(counts: Record, level: str) -> str:
    """Return the number scored and, if only a part of the videos was, the number listed."""
    listed = counts.get("videos_listed") if level == "video" else None
    return f"{counts[f'{level}s']}{f' of {listed}' if listed else ''} {level}s"


def data_of(record: Record) -> str:
    """Return the data set, quality and split of an evaluation, for display."""
    data = record["data"]
    label = f"{data['name']}-{data['quality']}"
    said = [label, *([record["split"]] if record["split"] != "test" else [])]
    return ", ".join(
        [*said, *(["synthetic"] if data["synthetic"] and "synth" not in label else [])]
    )


def details_tables(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Yield tables of calibration, thresholds and forgeries of evaluations.

    Values are in percent, except the NLL and the thresholds.

    Args:
        records: As for :func:`evaluation_table`; those without
            such results (stored scores missing) are skipped.
    """
    for record in records:
        if "calibration" not in record:
            continue
        yield _headed(record, "")
        yield _calibration(record)
        yield _thresholds(record)
        yield _forgeries(record)


def robustness_tables(records: Sequence[Record]) -> Iterator[RenderableType]:
    """Yield tables of AUC over strength in percent, one per run and data set.

    Args:
        records: Contents of the ``robustness.json`` files.
    """
    for record in records:
        heads = ("clean", "1", "2", "3", "4", "5", "mean", "video mean")
        table = _table("AUC by strength", *heads)
        for found in record["perturbations"].values():
            values = aucs(found, "frame")
            clean = record["clean"]["frame"]["auc"]
            shown = [clean, *values, mean(values), mean(aucs(found, "video"))]
            table.add_row(f"  {found['title']}", *map(percent, shown))
        yield _headed(record, ", perturbed")
        yield table


def aucs(found: Record, level: str) -> list[float | None]:
    """Return the AUC of a perturbation at strengths 1 to 5."""
    return [point["auc"] for point in found[level]]


def mean(values: Sequence[float | None]) -> float | None:
    """Compute the mean; None if a value is missing or there are no values."""
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def percent(value: float | None, digits: int = 2) -> str:
    """Format a fraction in percent."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}"


def why_no_threshold(point: Record) -> str:
    """Return the reason why there is no threshold at a rate."""
    return f"too few reals ({point['reals']}) for {percent(point['rate'], 0)} %"


def _headed(record: Record, what: str) -> Text:
    return Text(f"\n {record['run']} on {data_of(record)}{what}", overflow="fold")


def _calibration(record: Record) -> Table:
    table = _table("calibration", "ECE", "Brier", "NLL")
    for level in LEVELS:
        found = record["calibration"][level]
        shown = percent(found["ece"]), percent(found["brier"]), f"{found['nll']:.4f}"
        table.add_row(f"  {level}s", *shown)
    return table


def _thresholds(record: Record) -> Table:
    table = _table("thresholds", "FPR", "chosen on (reals)", "threshold", "FPR here", "TPR here")
    for level in LEVELS:
        for where, points in record["thresholds"][level].items():
            if isinstance(points, str):
                table.caption = f"validation: {points}"
                continue
            for point in points:
                chosen_on = "these" if where == "here" else where
                start = f"  {level}s", percent(point["rate"], 0), f"{chosen_on} ({point['reals']})"
                if point["threshold"] is None:
                    table.add_row(*start, "too few")
                    continue
                shown = f"{point['threshold']:.4f}", percent(point["fpr"]), percent(point["tpr"])
                table.add_row(*start, *shown)
    return table


def _forgeries(record: Record) -> Table:
    table = _table("forgeries", "of", "AUC", "found at 0.5", "found at FPR 5 %")
    for row in record["forgeries"]:
        for level in LEVELS:
            found = row[level]
            values = (found["auc"], found["recall"], found["recall_at_fpr"])
            name = f"  {row['method']}" if level == "frame" else ""
            table.add_row(name, f"{found['n']} {level}s", *map(percent, values))
    return table


def _table(*heads: str) -> Table:
    table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False)
    table.caption_justify = "left"
    for number, head in enumerate(heads):
        table.add_column(f"  {head}" if not number else head, justify="right", no_wrap=number > 0)
    table.columns[0].justify = "left"
    return table

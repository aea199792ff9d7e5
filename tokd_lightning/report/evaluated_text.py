"""Evaluations beyond the paper's metrics as text tables, and as CSV in full precision."""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from tokd_lightning.report.evaluations import LEVELS, Evaluated, EvaluatedOn
from tokd_lightning.tables.further import NOTHING, aucs, mean, percent, why_no_threshold

COLUMNS = (
    *("run", "evaluated_on", "split", "level", "what", "name", "strength", "parameter"),
    *("metric", "value"),
)
_AMONG = 0.05


class Part(NamedTuple):
    """A table.

    Attributes:
        title: Its title.
        heads: Headers of its columns.
        rows: Its texts.
        left: Number of leading columns that identify a row.
        notes: Explanations for the reader.
        long: Whether it has many rows per run.
    """

    title: str
    heads: tuple[str, ...]
    rows: list[list[str]]
    left: int
    notes: tuple[str, ...] = ()
    long: bool = False


def evaluated_parts(its: EvaluatedOn) -> Iterator[Part]:
    """Yield the tables of the runs evaluated on a data set."""
    yield _overview(its)
    if its.perturbations:
        yield _robustness(its)
    yield _thresholds(its)
    yield _forgeries(its)


def _overview(its: EvaluatedOn) -> Part:
    heads: tuple[str, ...] = (
        "Run",
        "AUC",
        "ECE",
        "Brier",
        "NLL",
        "TPR at FPR 5 %",
        "Video AUC",
        "Video ECE",
    )
    heads += ("Perturbed AUC",) if its.perturbations else ()
    rows = []
    for one in its.runs:
        found = one.record["calibration"]
        row = [one.run, percent(one.metric("frame/auc"))]
        row += [percent(found["frame"]["ece"]), percent(found["frame"]["brier"])]
        row += [f"{found['frame']['nll']:.3f}", percent(_tpr(one))]
        row += [percent(one.metric("video/auc")), percent(found["video"]["ece"])]
        rows.append(row + ([percent(_perturbed(one))] if its.perturbations else []))
    notes = (
        "ECE: 15 bins of P(fake) of equal width, against the share of fakes in each. NLL in nats, "
        "all else in percent. Perturbed AUC: mean over the perturbations and strengths below.",
    )
    return Part("Runs", heads, rows, 1, (*notes, *its.notes))


def _tpr(one: Evaluated) -> float | None:
    points = one.record["thresholds"]["frame"]["here"]
    value = next((p["tpr"] for p in points if p["rate"] == _AMONG), None)
    return None if value is None else float(value)


def _perturbed(one: Evaluated) -> float | None:
    if not one.robustness:
        return None
    found = one.robustness["perturbations"].values()
    return mean([value for its in found for value in aucs(its, "frame")])


def _robustness(its: EvaluatedOn) -> Part:
    heads = ("Run", "Perturbation", "Clean", "1", "2", "3", "4", "5", "Mean", "Video mean")
    rows = []
    for one in its.runs:
        if not one.robustness:
            continue
        clean = one.robustness["clean"]["frame"]["auc"]
        for n, found in enumerate(one.robustness["perturbations"].values()):
            values = aucs(found, "frame")
            shown = [clean, *values, mean(values), mean(aucs(found, "video"))]
            rows.append([one.run if n == 0 else "", found["title"], *map(percent, shown)])
    said = "; ".join(
        f"{found['title']}, {found['parameter']}: {', '.join(f'{v:g}' for v in found['values'])}"
        for found in its.perturbations.values()
    )
    return Part("AUC by strength", heads, rows, 2, (f"Strengths 1 to 5. {said}.",), True)


def _thresholds(its: EvaluatedOn) -> Part:
    heads = ("Run", "Level", "FPR", "Chosen on", "Reals", "Threshold", "FPR here", "TPR here")
    rows, notes = [], []
    for one in its.runs:
        name = one.run
        for level in LEVELS:
            for where, points in one.record["thresholds"][level].items():
                if isinstance(points, str):
                    notes.append(f"{one.run}, validation: {points}")
                    continue
                for point in points:
                    chosen_on = "these scores" if where == "here" else where
                    row = [name, level, percent(point["rate"], 0), chosen_on, str(point["reals"])]
                    rows.append([*row, *_point(point)])
                    name = ""
    about = (
        "FPR: share of reals called fake. A threshold chosen on these very scores keeps its FPR by "
        "construction; one chosen on validation shows what it does here."
    )
    title = "Thresholds at fixed false positive rates"
    return Part(title, heads, rows, 2, (about, *dict.fromkeys(notes)), True)


def _point(point: dict[str, Any]) -> list[str]:
    if point["threshold"] is None:
        return [why_no_threshold(point), NOTHING, NOTHING]
    return [f"{point['threshold']:.4f}", percent(point["fpr"]), percent(point["tpr"])]


def _forgeries(its: EvaluatedOn) -> Part:
    heads: tuple[str, ...] = ("Run", "Forgery")
    for level in LEVELS:
        word = "" if level == "frame" else "Video "
        heads += (f"{level.capitalize()}s", f"{word}AUC", f"{word}at 0.5", f"{word}at FPR 5 %")
    rows = []
    for one in its.runs:
        for n, found in enumerate(one.record["forgeries"]):
            row = [one.run if n == 0 else "", found["method"]]
            for level in LEVELS:
                its_level = found[level]
                values = (its_level["auc"], its_level["recall"], its_level["recall_at_fpr"])
                row += [str(its_level["n"]), *map(percent, values)]
            rows.append(row)
    about = (
        "Each forgery against all reals: AUC, and the share of it that is called fake at 0.5 and "
        "at the threshold above which 5 % of the reals are."
    )
    return Part("Forgeries", heads, rows, 2, (about,), True)


def evaluations_csv(evaluated: Sequence[EvaluatedOn]) -> str:
    """Return every number of the evaluations as CSV, one per row, shares as fractions."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for its in evaluated:
        for one in its.runs:
            start = {"run": one.run, "evaluated_on": its.name, "split": one.record["split"]}
            for row in _numbers(one):
                writer.writerow(start | row)
    return text.getvalue()


def _numbers(one: Evaluated) -> Iterator[dict[str, Any]]:
    for level in LEVELS:
        start = {"level": level}
        for metric in ("ece", "brier", "nll"):
            value = one.record["calibration"][level][metric]
            yield start | {"what": "calibration", "metric": metric, "value": value}
        for where, points in one.record["thresholds"][level].items():
            for point in points if isinstance(points, list) else []:
                known = start | {"what": f"threshold ({where})", "name": f"fpr {point['rate']:g}"}
                for metric in ("threshold", "fpr", "tpr", "reals"):
                    yield known | {"metric": metric, "value": point[metric]}
        for found in one.record["forgeries"]:
            for metric, value in found[level].items():
                known = start | {"what": "forgery", "name": found["method"]}
                yield known | {"metric": metric, "value": value}
        for name, found in (one.robustness or {}).get("perturbations", {}).items():
            for n, (parameter, point) in enumerate(zip(found["values"], found[level], strict=True)):
                known = start | {"what": "robustness", "name": name, "strength": n + 1}
                for metric, value in point.items():
                    yield known | {"parameter": parameter, "metric": metric, "value": value}

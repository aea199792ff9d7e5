"""Model card of an exported student: what it is, its metrics, its intended use and limits."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from tokd_lightning.deploy.record import FILES
from tokd_lightning.deploy.source import Source
from tokd_lightning.deploy.thresholds import at
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import video_table

_METRICS = ("acc", "balanced_acc", "acc_real", "acc_fake", "auc", "eer")
_HEAD = (
    "| | accuracy | balanced | on real | on fake | AUC | EER |\n|---|---:|---:|---:|---:|---:|---:|"
)
_USE = """\
## Intended use

To study detectors of face forgery, and to sort pictures and videos for a person who then looks at
them. The network sees the largest face of a picture, cut out as above; a video's score is the mean
of its frames'.

## Not for

A score is no proof about a person: it must not decide by itself over accusing, blocking or paying
anybody. Nor is it a test of whether a picture is authentic: edits outside the face, swapped context
and fully generated scenes are not what it was trained on. A low score does not mean real.

## Limits

- It knows the forgeries, cameras and compression of its training data. On others it is worse, often
  much worse (Table 7 of the paper), and compression, scaling and filters change its scores.
- P(fake) is the softmax of a network trained on its own mix of real and fake; where forgeries are
  rare, most of what it calls fake is real.
- Whether it errs more on some groups of people than on others has not been measured.
- A face that the detector misses is not scored, and which it misses may depend on the class; of
  several faces the largest is scored.
- Whoever has the weights can make forgeries that pass it.
"""


def model_card(record: Mapping[str, Any], source: Source) -> str:
    """Return the card in Markdown.

    Args:
        record: Content of ``model.json``.
        source: The student.

    Raises:
        TokdError: The run's ``test_frames.csv`` cannot be read.
    """
    return "\n".join(_lines(record, source)) + "\n\n" + _USE


def _lines(record: Mapping[str, Any], source: Source) -> Iterator[str]:
    trained, fed, face = record["trained"], record["input"], record["face"]
    cell = trained["cell"] or {}
    yield f"# {record['name']}\n"
    yield (
        "Tells real faces from forged ones. S_B and G_Sc of two-in-one knowledge distillation "
        "([paper](https://arxiv.org/abs/2302.10437), Sec. 4.3), exported by tokd_lightning; no "
        "part of teacher, projectors or rotations is in it.\n"
    )
    millions = record["parameters"] / 1e6
    rows = {
        "network": f"{source.network}, {millions:.2f} M parameters",
        "files": ", ".join(
            f"`{FILES[kind]}` ({file['bytes'] / 1e6:.1f} MB)"
            for kind, file in record["files"].items()
        ),
        **_int8(record),
        "method": _method(cell, trained),
        "trained on": _data(trained),
        **_landmarks(trained),
        "input": (
            f"face at {fed['size']} px, the middle {fed['crop']} px of it, RGB / 255, mean "
            f"{fed['mean']}, std {fed['std']}"
        ),
        "face": f"{face['detector']}, crop {face['margin']:g} times the face: {face['source']}",
        "resampling": fed["resampling"],
        "classes": "0 real, 1 fake",
        "heat map": record["heat_map"],
        "calibration": _calibration(record.get("temperature")),
    }
    yield "| | |\n|---|---|"
    yield from (f"| {what} | {said} |" for what, said in rows.items())
    yield "\n## Decision threshold\n"
    for level, chosen in record["threshold"].items():
        yield f"- {level}s: fake above **{chosen['value']:.4f}**"
    rules = dict.fromkeys(chosen["rule"] for chosen in record["threshold"].values())
    yield f"\nChosen by: {'; '.join(rules)}. Validation: {record['validation']}.\n"
    yield "## Metrics\n"
    yield _selection(trained) + "\n"
    if table := list(_table(record, source)):
        yield _HEAD
        yield from table
        yield ""
    else:
        yield "None are known: this is a checkpoint without its run, or it was not tested.\n"
    yield from _elsewhere(source)


def _calibration(temperature: Mapping[str, Any] | None) -> str:
    if temperature is None:
        return "none: P(fake) is the softmax of the network as it was trained"
    before, after = temperature["before"], temperature["after"]
    return (
        f"logits divided by {temperature['value']:.4f} ({temperature['rule']}; ECE "
        f"{before['ece']:.4f} before, {after['ece']:.4f} after)"
    )


def _int8(record: Mapping[str, Any]) -> dict[str, str]:
    if "onnx-int8" not in record["files"]:
        return {}
    gate = record["files"]["onnx-int8"]["gate"]
    said = (
        f"static, unsigned activations, classifier and heat map in float; calibrated on "
        f"{gate['calibration']['frames']} validation frames; on {gate['frames']} frames of "
        f"{gate['videos']} other validation videos AUC {gate['auc'][0]:.2%} in float and "
        f"{gate['auc'][1]:.2%} in int8, {gate['verdicts_turned']:.2%} of the verdicts turned, "
        f"P(fake) off by {gate['mean_difference']:.4f} on average and "
        f"{gate['largest_difference']:.3f} at most; {gate['speed']:.1f} times the speed of float "
        "on the exporting machine"
    )
    return {"int8": said}


def _method(cell: Mapping[str, Any], trained: Mapping[str, Any]) -> str:
    if not cell:
        return "unknown (a checkpoint without its run)"
    said = f"{cell['method']}, branches {cell['branches']}, seed {cell['seed']}"
    if teacher := trained["hashes"].get("teacher"):
        said += f", teacher {teacher[:12]}"
    return said


def _data(trained: Mapping[str, Any]) -> str:
    said = str(trained["data"])
    if trained.get("synthetic"):
        said += ": **synthetic faces, drawn by tokd demo; of no use on real ones**"
    if balance := trained.get("balance"):
        said += f"; balance {balance}"
    if content := trained["hashes"].get("data"):
        said += f"; frames {content[:12]}"
    return said


def _landmarks(trained: Mapping[str, Any]) -> dict[str, str]:
    if "landmarks" not in trained["hashes"].get("rows", {}) or trained.get("synthetic"):
        return {}
    said = (
        "in training, 68 points of each face were used. **The points that `tokd landmarks` and "
        "`tokd prepare --landmarks dlib` find come from a model trained on iBUG 300-W, whose "
        "licence excludes commercial use**"
    )
    return {"landmarks": said}


def _selection(trained: Mapping[str, Any]) -> str:
    chosen = trained.get("selected")
    if not chosen:
        return "How the checkpoint was selected is not known."
    return (
        f"The checkpoint is that of epoch {chosen['epoch'] + 1}, selected by the highest "
        f"{chosen['monitor']}; the test split had no part in it. EER is interpolated; a video's "
        "score is the mean of its frames'. Percent."
    )


def _table(record: Mapping[str, Any], source: Source) -> Iterator[str]:
    metrics = record["metrics"]
    for split, name in (("val", "validation"), ("test", "test")):
        for level in ("frame", "video"):
            found = {key: metrics.get(f"{split}/{level}/{key}") for key in _METRICS}
            if any(value is not None for value in found.values()):
                yield _row(f"{name}, {level}s, at 0.5", found)
            chosen = record["threshold"][level]
            if split == "val" and "at_value" in chosen:
                yield _row(f"{name}, {level}s, at {chosen['value']:.4f}", chosen["at_value"])
            elif split == "test" and (tested := _tested(source, level, chosen["value"])):
                yield _row(f"{name}, {level}s, at {chosen['value']:.4f}", tested)


def _tested(source: Source, level: str, threshold: float) -> dict[str, float] | None:
    """Compute the metrics of the run's own test at the chosen threshold."""
    if source.run is None or not (file := source.run.folder / "test_frames.csv").is_file():
        return None
    try:
        scores = pd.read_csv(file)
        rows = scores if level == "frame" else video_table(scores)
        truth = rows["label"].to_numpy(np.int64), rows["p_fake"].to_numpy(np.float64)
    except (ValueError, LookupError) as error:
        raise TokdError(f"{file} cannot be read ({error}): test the run again") from error
    return at(*truth, threshold)


def _elsewhere(source: Source) -> Iterator[str]:
    """Yield the results of ``tokd evaluate`` on other data."""
    found = source.run.evaluations() if source.run else {}
    rows = [
        _row(f"{name}, {level}s", {k: record["metrics"].get(f"test/{level}/{k}") for k in _METRICS})
        for name, record in found.items()
        if record.get("split") == "test"
        for level in ("frame", "video")
    ]
    if rows:
        yield f"## On other data, at 0.5\n\n{_HEAD}"
        yield from rows
        yield ""


def _row(what: str, metrics: Mapping[str, float | None]) -> str:
    values = (metrics.get(key) for key in _METRICS)
    cells = ("–" if value is None else f"{100 * value:.2f}" for value in values)
    return f"| {what} | {' | '.join(cells)} |"

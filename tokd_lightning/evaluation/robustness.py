"""Robustness of one run on one perturbed data set, with a pass and a result per perturbation."""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning.pytorch as pl
import pandas as pd
import torch
from torch import Tensor

from tokd_lightning.data.augment import Normalise, centre_crop
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.decode import read_frame
from tokd_lightning.data.frames import Batch
from tokd_lightning.data.perturbations import PERTURBATIONS, STRENGTHS, every_strength
from tokd_lightning.data.target import Target
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation.evaluate import (
    Options,
    folder_name,
    module_of,
    our_words,
    precision_of,
    score,
)
from tokd_lightning.evaluation.open_run import Trained
from tokd_lightning.evaluation.record import before, changes
from tokd_lightning.files import write_bytes, write_text
from tokd_lightning.metrics.classification import frame_and_video_metrics, video_table
from tokd_lightning.models.detectors import extras_of
from tokd_lightning.modules.trained import TrainedModule
from tokd_lightning.runs.folder import Run
from tokd_lightning.runs.identity import Config
from tokd_lightning.training.console import mistakes_in_one_line
from tokd_lightning.training.results import device_of

LEVELS = ("frame", "video")
METRICS = ("auc", "balanced_acc", "acc", "eer")
_KEY = ["dataset", "method", "video", "path", "label"]
_OF_THE_WHOLE = ("batch_size", "metrics", "counts", "device", "seconds")


def measure_robustness(
    trained: Trained,
    target: Target,
    names: Sequence[str],
    options: Options,
    force: bool = False,
    update: bool = False,
    say: Callable[[str], None] = print,
    bar: bool = False,
) -> Config:
    """Score an already evaluated run on perturbed versions of the same frames.

    Each perturbation is one pass over the frames, at five strengths, and is saved when it is done;
    the same command then continues with the missing ones.

    Args:
        trained: The run.
        target: The data set.
        names: Keys of :data:`~tokd_lightning.data.perturbations.PERTURBATIONS`.
        options: Options, the same as for the evaluation.
        force: Measure again even if a measurement exists.
        update: Measure again if an earlier measurement had other frames, weights or options.
        say: Function that prints a progress message.
        bar: Whether to show a progress bar.

    Returns:
        The contents of ``evaluations/<name>/robustness.json``: all perturbations measured so far.

    Raises:
        TokdError: There is no such evaluation, or an earlier measurement differs.
    """
    run, name = trained.run, folder_name(target, options.split)
    with our_words(), mistakes_in_one_line():
        data = module_of(trained, target, options)
        data.say = say
        precision = precision_of(trained, options)
        now = before(trained, target, data, options.split, precision)
        record = {key: value for key, value in now.items() if key not in _OF_THE_WHOLE}
        evaluation = run.evaluation(name)
        if evaluation is None or changes(evaluation, now):
            raise TokdError(f"{run.folder}/evaluations/{name} is not of these frames: --update")
        record["clean"] = _clean(evaluation, options.split)
        done = _earlier(run, name, now, force, update)
        again = [n for n in names if force or n not in done or not _equal(done[n], n)]
        if not again:
            said = "perturbed already, --force measures again"
            say(f"{record['run']} on {name}: {said}")
        for number, one in enumerate(again, 1):
            title = PERTURBATIONS[one].title
            say(f"{record['run']} on {name}: {title} ({number} of {len(again)})")
            done[one] = _measure(trained, data, one, options, precision, bar, run, name)
            known = {key: done[key] for key in PERTURBATIONS if key in done}
            run.write_evaluation(name, record | {"perturbations": known}, "robustness")
        kept = run.evaluation(name, "robustness")
        assert kept is not None
        folder = run.folder / "evaluations" / name
        write_text(folder / "robustness.csv", robustness_rows(kept).to_csv(index=False))
        wanted = ("robustness.png", "perturbations.png")
        if again or not all((folder / picture).is_file() for picture in wanted):
            _draw(run, name, kept, data, options.split)
    return kept


def robustness_rows(record: Config) -> pd.DataFrame:
    """Convert ``robustness.json`` to a table: a row per perturbation, strength and level."""
    rows = [
        {"perturbation": "clean", "strength": 0, "parameter": "", "value": None, "level": level}
        | record["clean"][level]
        for level in LEVELS
    ]
    for name, found in record["perturbations"].items():
        for strength, value in zip(STRENGTHS, found["values"], strict=True):
            start = {"perturbation": name, "strength": strength}
            start |= {"parameter": found["parameter"], "value": value}
            for level in LEVELS:
                rows.append(start | {"level": level} | found[level][strength - 1])
    return pd.DataFrame(rows)


class _Perturbed(pl.LightningModule):
    """Module that scores every frame at the five strengths of a perturbation.

    Args:
        model: The trained network.
        normalise: Normalisation, applied after the perturbation.
        name: Name of the perturbation.
        paths: Paths of the split's frames, the keys of their random draws.
    """

    def __init__(
        self, model: TrainedModule, normalise: Normalise, name: str, paths: Sequence[str]
    ) -> None:
        super().__init__()
        self.network, self.normalise = model.network, normalise
        self.name, self.paths = name, paths
        self.found: list[tuple[Tensor, Tensor]] = []

    def test_step(self, batch: Batch, batch_idx: int) -> None:
        """Score a batch of images in [0, 1] at all strengths."""
        if len(batch["image"]) == 0:
            return
        keys = [self.paths[row] for row in batch["index"].tolist()]
        scores, extras = [], extras_of(self.network, batch)
        for images in _exactly(every_strength(batch["image"], self.name, keys), self.device):
            logits = self.network(self.normalise(images), **extras).logits
            scores.append(logits.double().softmax(1)[:, 1])
        self.found.append((batch["index"].cpu(), torch.stack(scores, 1).cpu()))

    validation_step = test_step


def _exactly(images: Iterator[Tensor], device: torch.device) -> Iterator[Tensor]:
    """Yield the perturbed images, computed in full precision whatever the network's precision."""
    while True:
        with torch.autocast(device.type, enabled=False):
            one = next(images, None)
        if one is None:
            return
        yield one


def _measure(
    trained: Trained,
    data: FrameDataModule,
    name: str,
    options: Options,
    precision: str,
    bar: bool,
    run: Run,
    evaluation: str,
) -> Config:
    table = data.table(options.split)
    normalise = Normalise(data.mean, data.std)
    module = _Perturbed(trained.model, normalise, name, table["path"].tolist())
    data.normalise = Normalise(0.0, 1.0)  # the identity: images arrive in [0, 1]
    started = time.monotonic()
    trainer = score(module, data, options, precision, bar)
    index, p_fake = (torch.cat(column).numpy() for column in zip(*module.found, strict=True))
    columns = [f"p_fake_{strength}" for strength in STRENGTHS]
    scores = pd.DataFrame(p_fake, index, columns).sort_index()
    scores = table[_KEY].join(scores[~scores.index.duplicated()], how="inner")
    file = run.folder / "evaluations" / evaluation / "robustness" / f"{name}.csv"
    write_text(file, scores.to_csv(index=False))
    perturbation = PERTURBATIONS[name]
    levels: dict[str, list[dict[str, Any]]] = {level: [] for level in LEVELS}
    for column in columns:
        one = scores[_KEY].assign(p_fake=scores[column])
        metrics = frame_and_video_metrics(one)
        numbers = {"frame": len(one), "video": len(video_table(one))}
        for level in LEVELS:
            levels[level].append(_point(metrics, level, numbers[level]))
    return {
        "title": perturbation.title,
        "parameter": perturbation.parameter,
        "values": list(perturbation.values),
        **levels,
        "device": device_of(trainer),
        "seconds": round(time.monotonic() - started, 1),
    }


def _point(metrics: Config, level: str, number: int) -> dict[str, Any]:
    values = {metric: metrics[f"{level}/{metric}"] for metric in METRICS}
    rounded = {k: None if v is None or v != v else round(v, 7) for k, v in values.items()}
    return rounded | {"n": number}


def _clean(evaluation: Config, split: str) -> dict[str, Any]:
    metrics = {key.removeprefix(f"{split}/"): v for key, v in evaluation["metrics"].items()}
    counts = evaluation["counts"]
    return {level: _point(metrics, level, counts[f"{level}s"]) for level in LEVELS}


def _earlier(run: Run, name: str, now: Config, force: bool, update: bool) -> dict[str, Any]:
    """Return the stored perturbations for these frames, weights and options; empty if none.

    Raises:
        TokdError: An earlier measurement is unreadable or differs (unless ``force`` or
            ``update``).
    """
    try:
        earlier = run.evaluation(name, "robustness")
    except TokdError:
        if not (force or update):
            raise
        return {}
    if earlier is None:
        return {}
    changed = changes(earlier, now)
    if changed and not (force or update):
        raise TokdError(
            f"{run.folder}/evaluations/{name}/robustness.json was made with {changed}: --update "
            "or --force measures again"
        )
    return {} if changed else dict(earlier["perturbations"])


def _equal(earlier: Config, name: str) -> bool:
    perturbation = PERTURBATIONS[name]
    now = [perturbation.parameter, list(perturbation.values)]
    return [earlier["parameter"], earlier["values"]] == now


def _draw(run: Run, name: str, record: Config, data: FrameDataModule, split: str) -> None:
    from tokd_lightning.evaluation.robustness_pictures import perturbations_png, robustness_png

    folder, title = run.folder / "evaluations" / name, f"{record['run']}\non {name}"
    write_bytes(folder / "robustness.png", robustness_png([record], title))
    for path in data.table(split).sort_values("label", ascending=False, kind="stable")["path"]:
        try:
            pixels = read_frame(data.root / path, data.size)
        except ValueError:  # --on-error skip
            continue
        image = centre_crop(pixels[None], data.input_size)[0] / 255
        png = perturbations_png(image, path, list(record["perturbations"]), f"{name}: {path}")
        write_bytes(folder / "perturbations.png", png)
        return

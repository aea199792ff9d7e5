"""Validation split of a run: scores for choosing the threshold, and real inputs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from tokd_lightning.audit.stored import stored_validation
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.frames import Batch, Unreadable
from tokd_lightning.data.settings import module_of
from tokd_lightning.deploy.compression import quality_of_files
from tokd_lightning.deploy.source import Source
from tokd_lightning.errors import TokdError
from tokd_lightning.evaluation.evaluate import our_words
from tokd_lightning.runs.identity import Config

_REAL = 16
_FEW = 2
_BATCH = 32
_OUR_WORDS = {r"--data\.root": "--data"}


class Validation(NamedTuple):
    """Available data of the validation split.

    Attributes:
        scores: One row per frame; None if there are none.
        inputs: Some normalised images, ``(N, 3, S, S)``; None if there are none.
        said: Where the scores come from, or why there are none.
        root: Where the frames are; None if unknown.
        frames: The rows of the split; None if they cannot be read.
        data: Reads them; None if it cannot.
    """

    scores: pd.DataFrame | None
    inputs: Tensor | None
    said: str
    root: Path | None = None
    frames: pd.DataFrame | None = None
    data: FrameDataModule | None = None

    def jpeg_quality(self) -> float | None:
        """Return the JPEG quality of the frames; 100 for lossless ones, None if unknown."""
        if self.frames is None or self.root is None:
            return None
        return quality_of_files(self.root / path for path in self.frames["path"])

    def batches(self, rows: Sequence[int]) -> Iterator[Batch]:
        """Read some rows of ``frames``, normalised; there must be ``data``.

        Raises:
            TokdError: A frame cannot be read, and the run was not told to skip such frames.
        """
        assert self.data is not None
        chosen = Subset(self.data.val_dataloader().dataset, rows)
        for batch in DataLoader(chosen, _BATCH, collate_fn=lambda loaded: loaded):
            if isinstance(batch, Unreadable):
                raise TokdError(batch.message)
            yield self.data.on_after_batch_transfer(batch, 0)


def validation(source: Source, root: Path | None = None) -> Validation:
    """Return the validation scores that ``tokd evaluate --split val`` stored, or compute them.

    Args:
        source: The student.
        root: Where the run's data are now; by default where its configuration says.
    """
    stored = stored_validation(source.run, source.model.weights) if source.run else None
    said = "scores that tokd evaluate has stored"
    try:
        with our_words(_OUR_WORDS):
            data = _data(source.config, root)
            table = data.table("val")
        if table.empty:
            raise TokdError("the data have no validation split")
        scores, inputs = _score(source, data, len(table) if stored is None else _REAL)
    except (TokdError, OSError) as error:
        place = root or _root(source.config)
        if stored is not None:
            return Validation(stored, None, said, place)
        return Validation(None, None, f"its validation frames cannot be read: {error}", place)
    place = Path(data.root)
    if stored is not None:
        return Validation(stored, inputs, said, place, table, data)
    said = f"{len(scores)} frames, scored at export"
    was = source.results.metrics.get("val/frame/acc") if source.results else None
    now = float(((scores["p_fake"] > 0.5) == scores["label"]).mean())
    if was is not None and abs(was - now) > 0.01:
        said += f"; their accuracy is {now:.4f} now and was {was:.4f} in training: other frames?"
    return Validation(scores, inputs, said, place, table, data)


def _root(config: Config | None) -> Path | None:
    given = config["data"]["init_args"].get("root") if config else None
    return Path(given) if given else None


def _data(config: Config | None, root: Path | None) -> FrameDataModule:
    if config is None:
        raise TokdError("a checkpoint without its run does not say where its data are")
    return module_of(config, root)


@torch.inference_mode()
def _score(source: Source, data: FrameDataModule, rows: int) -> tuple[pd.DataFrame, Tensor]:
    """Score at least the first ``rows`` frames; keep some images of every batch."""
    table, kept, found = data.table("val"), [], []
    for batch in data.val_dataloader():
        batch = data.on_after_batch_transfer(batch, 0)
        p_fake = source.model(batch["image"]).double().softmax(1)[:, 1]
        found.append(pd.DataFrame({"index": batch["index"].numpy(), "p_fake": p_fake.numpy()}))
        few = max(_FEW, -(-_REAL * len(p_fake) // min(rows, len(table))))
        kept.append(batch["image"][:: max(1, len(p_fake) // few)])
        if sum(map(len, found)) >= rows:
            break
    scores = pd.concat(found).drop_duplicates("index").set_index("index").sort_index()
    images = torch.cat(kept)
    chosen = np.linspace(0, len(images) - 1, min(_REAL, len(images))).round().astype(int)
    return table.join(scores, how="inner"), images[chosen].clone()

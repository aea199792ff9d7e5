"""Temperature scaling of a student at export, so that P(fake) is calibrated."""

from typing import Any

import numpy as np
import torch

from tokd_lightning.deploy.source import Source
from tokd_lightning.deploy.validation import Validation
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.calibration import calibrated, fit_temperature, scaled


@torch.no_grad()
def calibrate(source: Source, known: Validation) -> tuple[Validation, dict[str, Any]]:
    """Divide a student's logits by the temperature that fits its validation scores best.

    The classifier's weights and biases are divided, in place: whatever runs the exported network
    gives calibrated probabilities, and the heatmap's mean stays the difference of the logits.

    Args:
        source: The student.
        known: Its validation split.

    Returns:
        The split with its scores after scaling, and the entry of ``model.json``.

    Raises:
        TokdError: There are no validation scores of both classes.
    """
    scores = known.scores
    if scores is None or scores["label"].nunique() < 2:
        raise TokdError(f"--calibrate needs validation scores of both classes: {known.said}")
    label = scores["label"].to_numpy(np.int64)
    before = scores["p_fake"].to_numpy(np.float64)
    temperature = fit_temperature(label, before)
    classifier = getattr(source.student, "classifier", None)
    if not isinstance(classifier, torch.nn.Linear):
        raise TokdError(f"--calibrate needs a linear classifier, which {source.network} lacks")
    for weight in classifier.parameters():
        weight.div_(temperature)
    after = scaled(before, temperature)
    measured = {
        name: {key: calibrated(label, p_fake)[key] for key in ("nll", "ece")}
        for name, p_fake in (("before", before), ("after", after))
    }
    said = {"value": temperature, "rule": "lowest NLL of the validation frames", **measured}
    return known._replace(scores=scores.assign(p_fake=after)), said

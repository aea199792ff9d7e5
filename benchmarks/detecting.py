"""Steps of detectors against plain steps of the same backbone, on the CPU.

A step is what the training module does with a batch: the change of the images, forward, the
detector's loss, backward, and Adam. RFM and F3-Net are held against a plain Xception, each at its
side, MultiAtt with AGDA against EfficientNet-B4 with a linear classifier.
"""

import argparse
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from benchmarks.timing import Spread, compare, ratio, spread, threads
from tokd_lightning.models.detectors import (
    RFM,
    SEEDS,
    CrossEntropy,
    Detector,
    DetectorLoss,
    DetectorOutput,
    F3Net,
    MultiAtt,
    extras_of,
)
from tokd_lightning.models.detectors.networks import FineMaps


class Plain(Detector):
    """A linear classifier on the pooled last map of MultiAtt's backbone."""

    name = title = "plain"

    def __init__(self, backbone: str) -> None:
        super().__init__()
        self.backbone = FineMaps(backbone)
        self.classifier = nn.Linear(self.backbone.channels[32], 2)

    def forward(self, image: Tensor, **extras: Tensor) -> DetectorOutput:
        """Classify normalised images."""
        maps: dict[int, Tensor] = self.backbone(image)
        return DetectorOutput(self.classifier(maps[32].mean(dim=(2, 3))), maps, {})


class Compared(NamedTuple):
    """A detector's step and the plain one of its backbone.

    Attributes:
        ratio: Detector / plain.
        step: Seconds of the detector's step.
        plain: Seconds of the plain step.
    """

    ratio: Spread
    step: Spread
    plain: Spread


def step_of(detector: Detector, loss: DetectorLoss, batch: dict[str, Any]) -> Callable[[], object]:
    """Return a training step as a call without arguments."""
    detector = detector.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(detector.parameters(), lr=1e-4)

    def step() -> None:
        given = {**batch, "image": loss.before_step(detector, batch)}
        output = detector(given["image"], **extras_of(detector, given))
        losses = loss(detector, output, given)
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(list(losses.values())).sum())
        optimizer.step()

    return step


def measure(
    batch: int = 4,
    repeats: int = 10,
    sides: tuple[int, int, int] = (224, 299, 380),
    xception: str = "xception",
    efficient: str = "tf_efficientnet_b4",
) -> dict[str, Compared]:
    """Time the three detectors, each in turns with its plain step.

    Args:
        batch: Images per step.
        repeats: Timed steps, at least 2.
        sides: Sides in pixels of RFM, F3-Net and MultiAtt.
        xception: Backbone of RFM and F3-Net.
        efficient: Backbone of MultiAtt.
    """
    torch.manual_seed(0)
    makers: dict[str, tuple[int, Callable[[], Detector], Callable[[], Detector]]] = {
        "RFM": (sides[0], lambda: RFM(xception, False), lambda: RFM(xception, False)),
        "F3-Net": (
            sides[1],
            lambda: F3Net(xception, False, size=sides[1]),
            lambda: RFM(xception, False),
        ),
        "MultiAtt": (sides[2], lambda: MultiAtt(efficient, False), lambda: Plain(efficient)),
    }
    found = {}
    for name, (side, make, plain) in makers.items():
        image = torch.randn(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        given = {"image": image, "label": torch.arange(batch) % 2, SEEDS: list(range(batch))}
        ours, bare = make(), plain()
        calls = {
            "ours": step_of(ours, ours.make_loss(), given),
            "plain": step_of(bare, CrossEntropy(bare), given),
        }
        with threads(1):
            seconds = compare(calls, repeats)
        found[name] = Compared(
            ratio(seconds["ours"], seconds["plain"]),
            spread(seconds["ours"]),
            spread(seconds["plain"]),
        )
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=10)
    given = parser.parse_args()
    for detector, one in measure(given.batch, given.repeats).items():
        print(f"{detector:9} / plain  {one.ratio}   {one.step} s, {one.plain} s", flush=True)

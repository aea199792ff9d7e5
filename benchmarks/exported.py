"""Networks as ONNX files on one core: size and images per second at 299 px.

`python -m benchmarks.exported`
"""

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from benchmarks.timing import Spread, compare, ratio, spread
from tokd_lightning.deploy.engine import onnx_session
from tokd_lightning.deploy.int8 import coverage, quantise
from tokd_lightning.deploy.networks import INPUT, Deployed, to_onnx
from tokd_lightning.files import write_json
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.runs.provenance import versions

TEACHER = "teacher (2 x Xception)"


class Logits(nn.Module):
    """A network that returns only its logits."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits of images."""
        logits: Tensor = self.network(image).logits
        return logits


class Exported(NamedTuple):
    """A network: parameters, bytes of its ONNX file, images per second, speed / the teacher's."""

    parameters: int
    size: int
    rate: Spread
    faster: Spread


class Quantised(NamedTuple):
    """An int8 network: bytes of its file, speed / float, share of its convolutions in int8."""

    size: int
    faster: Spread
    coverage: float


def networks(backbone: str = "xception") -> dict[str, nn.Module]:
    """Build the paper's student, the vanilla Xception and the teacher."""
    return {
        "student ResNet18-T": Student("resnet18_thin"),
        "student ResNet34-T": Student("resnet34_thin"),
        "vanilla Xception": Student(backbone),
        TEACHER: DualBranchTeacher(backbone, pretrained=False),
    }


def measure(
    batch: int = 4, size: int = 299, repeats: int = 5, backbone: str = "xception"
) -> dict[str, Exported]:
    """Export networks and time them in ONNX Runtime, interleaved, on one thread.

    Args:
        batch: Images per call.
        size: Side of the images in pixels.
        repeats: Timed calls per network.
        backbone: Backbone of the large networks.

    Returns:
        Name -> result.
    """
    images = torch.randn(batch, 3, size, size).numpy()
    built = networks(backbone)
    contents = {
        name: to_onnx(Logits(network), size, batch=batch) for name, network in built.items()
    }
    calls = {
        name: partial(onnx_session(content, threads=1).run, None, {INPUT: images})
        for name, content in contents.items()
    }
    seconds = compare(calls, repeats)
    return {
        name: Exported(
            sum(weight.numel() for weight in built[name].parameters()),
            len(contents[name]),
            spread([batch / value for value in values]),
            ratio(seconds[TEACHER], values),
        )
        for name, values in seconds.items()
    }


def measure_int8(
    backbones: Sequence[str], size: int = 299, repeats: int = 15
) -> dict[str, Quantised]:
    """Quantise students with random weights, and time them against float, interleaved.

    Calibration is on noise, which gives the same kernels as pictures do. One thread, one image.

    Args:
        backbones: Their backbones.
        size: Side of the images in pixels.
        repeats: Timed calls per network.
    """
    images = torch.randn(2, 3, size, size).numpy()
    found = {}
    for backbone in backbones:
        content = to_onnx(Deployed(Student(backbone)), size)
        made = quantise(content, images)
        calls = {
            name: partial(onnx_session(one, threads=1).run, None, {INPUT: images[:1]})
            for name, one in (("float", content), ("int8", made))
        }
        seconds = compare(calls, repeats)
        faster = ratio(seconds["float"], seconds["int8"])
        found[backbone] = Quantised(len(made), faster, coverage(made))
    return found


def main() -> None:
    """Print the table and write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--int8", nargs="+", default=["resnet18_thin", "resnet34_thin", "xception"],
        help="backbones to quantise",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, default=Path("runs/exported.json"))
    given = parser.parse_args()
    found = measure(given.batch, repeats=given.repeats)
    table = Table(title="ONNX Runtime, one thread, 299 px", title_justify="left")
    for column in ("", "parameters", "file", "images / s", "x teacher"):
        table.add_column(column, justify="right" if column else "left")
    for name, one in found.items():
        cells = (f"{one.parameters / 1e6:.2f} M", f"{one.size / 1e6:.1f} MB")
        table.add_row(name, *cells, str(one.rate), str(one.faster))
    Console().print(table)
    int8 = measure_int8(given.int8, repeats=3 * given.repeats)
    small = Table(title="int8, one thread, 299 px", title_justify="left")
    for column in ("", "file", "x float", "convolutions in int8"):
        small.add_column(column, justify="right" if column else "left")
    for name, quantised in int8.items():
        size = f"{quantised.size / 1e6:.1f} MB"
        small.add_row(name, size, str(quantised.faster), f"{quantised.coverage:.0%}")
    Console().print(small)
    rows: dict[str, Any] = {
        name: one._asdict() | {"rate": one.rate._asdict(), "faster": one.faster._asdict()}
        for name, one in found.items()
    }
    about = {"batch": given.batch, "threads": 1, "versions": versions(), "networks": rows}
    about["int8"] = {
        name: one._asdict() | {"faster": one.faster._asdict()} for name, one in int8.items()
    }
    write_json(given.out, about)


if __name__ == "__main__":
    main()

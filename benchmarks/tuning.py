"""Memory of training a transformer as teacher: all of it, its norms, without activations."""

import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.figures import Row, exactly
from benchmarks.memory import forget_high_water, high_water, in_child
from benchmarks.training import Batches, quiet, quiet_trainer
from tokd_lightning.modules import TeacherModule

_CASES = (("all", False), ("norms", False), ("norms", True), ("head", False))


class _Named(Batches):
    name, quality = "noise", "c0"


class Peak(NamedTuple):
    """Memory and checkpoint of a few steps.

    Attributes:
        above: Peak memory above the weights in MB.
        trained: Weights of the network in its checkpoint, as a share of all, in percent.
    """

    above: float
    trained: float


def peak(backbone: str, size: int, batch: int, tune: str, checkpointing: bool) -> Peak:
    """Measure two steps of a teacher of one branch; call it through :func:`in_child`."""
    quiet()
    torch.set_num_threads(1)
    module = TeacherModule(
        partial(torch.optim.AdamW, lr=1e-4),
        partial(torch.optim.lr_scheduler.ConstantLR),
        backbone,
        pretrained=False,
        branches="rgb",
        projectors=False,
        tune=tune,
        checkpointing=checkpointing,
        size=size,
    )
    whole = sum(value.numel() for value in module.network.state_dict().values())
    forget_high_water()
    before = high_water()
    trainer = quiet_trainer(torch.device("cpu"), "32-true")
    trainer.fit(module, datamodule=_Named(2, batch, size))
    above = (high_water() - before) / 1e6
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "last.ckpt"
        trainer.save_checkpoint(path)
        state: dict[str, Any] = torch.load(path, weights_only=True)["state_dict"]
    held = sum(value.numel() for key, value in state.items() if key.startswith("teacher."))
    return Peak(above, 100 * held / whole)


def measure(backbone: str, size: int, batch: int) -> Iterator[Row]:
    """Yield the rows of all cases.

    Args:
        backbone: Name of the transformer.
        size: Side of the images in pixels.
        batch: Images per step.
    """
    found = {case: in_child(peak, backbone, size, batch, *case) for case in _CASES}
    where = f"{backbone}, {size} px, batch {batch}"
    names = {("norms", True): "norms, checkpointing"}
    targets = {("norms", False): "<= 0.45", ("norms", True): "<= 0.15"}
    for case, one in found.items():
        name = names.get(case, case[0])
        yield Row(f"peak memory above the weights, tune {name}, {where}", "MB", exactly(one.above))
        if case != ("all", False):
            share = exactly(one.above / found["all", False].above)
            what = f"peak memory above the weights, tune {name} / all, {backbone}"
            yield Row(what, "x", share, targets.get(case, ""))
    share = exactly(found["norms", False].trained)
    yield Row(f"network in the checkpoint, tune norms, {backbone}", "%", share, "<= 1")

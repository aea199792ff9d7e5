"""Both rotation updates by the default direction against torch's orthogonal parametrizations.

Process time of a step of both matrices, including rows (Eq. 15) and polish: ours is timed in
blocks with one Newton-Schulz polish per matrix. A peer's step is forward and backward of L_R
(Eq. 13) through the parametrization, and a step of SGD.
"""

import argparse
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal

from benchmarks.timing import Spread, compare, ratio, spread, threads
from tokd_lightning.distillation.rotation import Layout, Rotation
from tokd_lightning.distillation.rotation_optimizer import (
    DENSE_AGE,
    POLISH_EVERY,
    Direction,
    RotationOptimizer,
)

BRANCHES = ("rgb", "frequency")
SCALE = dict.fromkeys(BRANCHES, 10.0)
DENSE_STEPS = POLISH_EVERY // DENSE_AGE  # dense steps between two polishes


def ours(
    v: dict[str, Tensor],
    dim: int,
    count: int = POLISH_EVERY,
    direction: Direction = "normalized",
    layout: Layout = "flat_prefix",
    shape: tuple[int, int, int] | None = None,
) -> Callable[[], None]:
    """Return a call with the number of steps between two polishes, or with ``count`` steps.

    Args:
        v: Branch -> gradients at the map, ``(N, C * H * W)``.
        dim: d, a multiple of 4.
        count: Steps per call.
        direction: Direction of the optimizer.
        layout: Layout of the rotation.
        shape: Shape of the map; by default one with d entries.
    """
    rotation = Rotation(shape or (dim // 4, 2, 2), dim, layout).to(v["rgb"].device)
    optimizer = RotationOptimizer(rotation.matrices().values(), direction=direction)

    def steps() -> None:
        for _ in range(count):
            rows, g = rotation.rows(v, SCALE)
            optimizer.step(rows=[(rows[branch], g) for branch in BRANCHES])

    return steps


def peer(v: dict[str, Tensor], dim: int, how: str) -> Callable[[], None]:
    """Return a call for one step of both matrices with a parametrization of torch."""
    device = v["rgb"].device
    layers = {branch: nn.Linear(dim, dim, bias=False, device=device) for branch in BRANCHES}
    for layer in layers.values():
        nn.init.eye_(layer.weight)
        orthogonal(layer, orthogonal_map=how)
    optimizer = torch.optim.SGD([p for x in layers.values() for p in x.parameters()], lr=5e-5)

    def step() -> None:
        g = (v["rgb"] + v["frequency"]) / 2
        optimizer.zero_grad()
        for branch, layer in layers.items():
            turned = v[branch] @ layer.weight
            loss = -nn.functional.cosine_similarity(turned, g).mean()
            torch.autograd.backward(loss)
        optimizer.step()

    return step


def measure(
    dim: int = 1024, batch: int = 64, repeats: int = 3, num_threads: int = 1
) -> tuple[dict[str, Spread], dict[str, Spread]]:
    """Time one step of both rotations: ours (median of blocks with their polish) and two peers'.

    Args:
        dim: d, a multiple of 4.
        batch: Samples N.
        repeats: Blocks of ours, and steps of each peer, at least 2.
        num_threads: Threads of torch.

    Returns:
        Name -> milliseconds of process time, and peer -> its time as a multiple of ours.
    """
    torch.manual_seed(0)
    v = {branch: torch.randn(batch, dim) for branch in BRANCHES}
    with threads(num_threads):
        calls = {"ours": ours(v, dim)}
        calls |= {how: peer(v, dim, how) for how in ("cayley", "matrix_exp")}
        seconds = compare(calls, repeats)
    seconds["ours"] = [block / POLISH_EVERY for block in seconds["ours"]]
    times = {name: spread([1e3 * value for value in values]) for name, values in seconds.items()}
    ratios = {name: ratio(seconds[name], seconds["ours"]) for name in ("cayley", "matrix_exp")}
    return times, ratios


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    times, ratios = measure(given.dim, given.batch, given.repeats, given.threads)
    for name, milliseconds in times.items():
        print(f"both rotations, d {given.dim}, N {given.batch}, {name:10} {milliseconds} ms a step")
    for name, factor in ratios.items():
        print(f"both rotations, {name:10} / ours  {factor}")

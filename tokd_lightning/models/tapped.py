"""Any network of timm as a backbone: its own intermediate maps, brought to strides 8, 16 and 32."""

import logging
import math
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbone import EARLY, STRIDES, Backbone
from tokd_lightning.models.layouts import layout_of
from tokd_lightning.models.outputs import Shapes
from tokd_lightning.models.recompute import recomputing
from tokd_lightning.models.sizes import Misfit
from tokd_lightning.models.unused import remove_unused

_CHAINS = (
    *("blocks", "stages", "layers", "levels", "transformers"),
    *("network", "features", "body", "dense_stages"),
)
_POOLED_NORMS = ("fc_norm", "head.norm")  # applied by networks after pooling; here before it


class Tail(NamedTuple):
    """What follows a network's last map.

    Attributes:
        features: Whether the last map is taken from the network's features, which are a map too.
        norms: Names of the norms that follow, over the channels of the map.
    """

    features: bool
    norms: tuple[str, ...]


class TappedBackbone(Backbone):
    r"""A network of timm whose maps are those of its ``forward_intermediates``.

    At stride s the map has :math:`\lceil S / s \rceil` cells a side for images of S px. A pyramid
    gives its last map of the nearest grid; strides that share a grid share its blocks evenly, so
    that a plain ViT of n blocks gives those after n / 3, 2 n / 3 and n. A finer grid is averaged
    (``adaptive_avg_pool2d``), a coarser one interpolated. The last map is the network's last, with
    its last norm, whatever its grid.

    Args:
        network: A network of timm without classifier, built for ``side``; weights behind the last
            map are removed from it.
        name: Its name, for messages.
        size: Side S of the images in pixels.
        side: Side that the network sees: images are padded to it, on the right and at the bottom,
            with the value that normalised images have at their mean.

    Attributes:
        chain: Name of the network's container of blocks; empty if it has none that is known.
        taps: Stride -> number of the map among the network's own.
        grids: Stride -> side of that map, before it is brought to the stride.
        widths: Stride -> its channels.
        removed: Names of the removed weights.

    Raises:
        Misfit: The network has no such maps.
    """

    def __init__(self, network: nn.Module, name: str, size: int, side: int) -> None:
        super().__init__((), STRIDES, (), (True,) * len(STRIDES))
        self.network = network
        self.name = name
        self.size = size
        self.side = side
        self.chain = next(chains(network), "")
        was_training = network.training
        network.eval()
        with torch.enable_grad():
            maps, last = self._measured()
            sides = [m.shape[-1] for m in maps]
            self.taps = choose_taps(sides, size, side)
            self.tail = tail_of(network, last, maps[-1])
            whole = self._finished(network, last, maps[-1])
        self.grids = {stride: sides[tap] for stride, tap in self.taps.items()}
        widths = {s: maps[tap].shape[1] for s, tap in self.taps.items()}
        self.widths = widths | {STRIDES[-1]: whole.shape[1]}
        self.channels = tuple(self.widths[stride] for stride in STRIDES)
        self.early = int(EARLY in self.taps)
        self.removed = remove_unused(network, whole, self._runs)
        if self.removed:
            _log(f"{name}: {_listed(self.removed)} behind the last map is not used and left out")
        network.train(was_training)

    @property
    def built_for(self) -> dict[str, int]:
        """The size of images that the network was built for."""
        return {"size": self.size}

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return stride -> map ``(B, C, H / stride, W / stride)`` of images ``(B, 3, S, S)``."""
        self.check(x)
        taps = {s: tap for s, tap in self.taps.items() if s != EARLY or self.finest <= EARLY}
        with recomputing(self.network, self.recomputes):
            maps = self._run(self.network, self.padded(x), sorted({*taps.values()}))
        return {stride: self.fit(maps[tap], stride) for stride, tap in taps.items()}

    @property
    def blocks(self) -> list[nn.Module]:
        """The blocks in the order in which they run; empty if they are not known."""
        return list(self.network.get_submodule(self.chain).children()) if self.chain else []

    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        """Return the parts of the network by name, each parameter in one, stem first.

        ``stem``, then ``blocks.0`` and so on (one block each, by its name in the network), then
        ``head``: the norm behind them.
        """
        head = {name.partition(".")[0] for name in (*self.tail.norms, "norm", "fc_norm", "head")}
        parts: dict[str, list[nn.Module | nn.Parameter]] = {"stem": []}
        for number, block in enumerate(self.blocks):
            parts[f"{self.chain}.{number}"] = [block]
        parts["head"] = []
        for name, part in self.network.named_children():
            if name != self.chain:
                parts["head" if name in head else "stem"].append(part)
        parts["stem"] += [p for _, p in self.network.named_parameters(recurse=False)]
        return parts

    def known_shapes(self, size: int) -> Shapes:
        """Return the shapes of the maps for images of ``size`` x ``size`` pixels.

        Raises:
            TokdError: The network was built for another size.
        """
        self.check(torch.empty(1, 3, size, size, device="meta"))
        read = {s: c for s, c in self.widths.items() if s != EARLY or self.finest <= EARLY}
        return {s: (c, math.ceil(size / s), math.ceil(size / s)) for s, c in read.items()}

    def check(self, x: Tensor) -> None:
        """Check the size of images.

        Raises:
            TokdError: They have another size than the network was built for.
        """
        if x.shape[-1] != self.size or x.shape[-2] != self.size:
            raise TokdError(
                f"{self.name} was built for images of {self.size} px, and these have "
                f"{x.shape[-2]} x {x.shape[-1]}: its blocks depend on the size, so use the size "
                "that it was trained with"
            )

    def padded(self, x: Tensor) -> Tensor:
        """Pad images to the side that the network sees."""
        more = self.side - self.size
        return functional.pad(x, (0, more, 0, more)) if more else x

    def fit(self, feature_map: Tensor, stride: int) -> Tensor:
        """Bring a map of the network to the grid of a stride, without the cells of the border."""
        if self.side != self.size:
            seen = [math.ceil(n * self.size / self.side) for n in feature_map.shape[-2:]]
            feature_map = feature_map[..., : seen[0], : seen[1]]
        cells = math.ceil(self.size / stride)
        if feature_map.shape[-1] > cells:
            return functional.adaptive_avg_pool2d(feature_map, cells)
        if feature_map.shape[-1] < cells:
            return functional.interpolate(
                feature_map, (cells, cells), mode="bilinear", align_corners=False
            )
        return feature_map

    def _run(self, network: Any, x: Tensor, taps: Sequence[int]) -> dict[int, Tensor]:
        """Return the maps at taps, in ascending order; the last with what follows it."""
        if self.tail.features:
            last, maps = network.forward_intermediates(x, indices=list(taps))
        else:
            maps = network.forward_intermediates(x, indices=list(taps), intermediates_only=True)
            last = maps[-1]
        found = dict(zip(taps, maps, strict=True))
        found[taps[-1]] = self._finished(network, last, maps[-1])
        return found

    def _finished(self, network: nn.Module, last: Any, feature_map: Tensor) -> Tensor:
        """Return the last map with what follows it."""
        x: Tensor = last if self.tail.features else feature_map
        for name in self.tail.norms:
            x = over_channels(network.get_submodule(name), x)
        return x

    def _runs(self, network: Any) -> None:
        """Run a copy on the meta device, in both ways that are used."""
        dtype = _like(network)["dtype"]
        images = torch.empty(1, 3, self.side, self.side, dtype=dtype, device="meta")
        self._run(network, images, [self.taps[STRIDES[-1]]])
        network.forward_features(images)

    def _measured(self) -> tuple[list[Tensor], object]:
        """Run the network once, and return all of its maps and its last features."""
        network: Any = self.network
        result = network.forward_intermediates(probe_images(network, self.side))
        if not (isinstance(result, tuple) and len(result) == 2):
            raise Misfit("its forward_intermediates does not return features and maps")
        last, maps = result
        if not maps or any(m.ndim != 4 or m.shape[2] != m.shape[3] for m in maps):
            raise Misfit("it has no square maps")
        return list(maps), last


def chains(network: nn.Module) -> Iterator[str]:
    """Yield the names of containers that may hold a network's blocks."""
    for name in _CHAINS:
        if isinstance(getattr(network, name, None), nn.Sequential | nn.ModuleList):
            yield name


def choose_taps(sides: Sequence[int], size: int, side: int) -> dict[int, int]:
    """Return stride -> number of the map that is taken there.

    Args:
        sides: Sides of a network's maps, in the order of its blocks.
        size: Side of the images in pixels.
        side: Side that the network sees, at least ``size``.
    """
    of_grid: dict[int, list[int]] = {}
    for number, cells in enumerate(sides):
        of_grid.setdefault(cells, []).append(number)
    last = len(sides) - 1
    nearest = {
        stride: min(of_grid, key=lambda cells: abs(math.log(cells * stride / side)))
        for stride in STRIDES[:-1]
    } | {STRIDES[-1]: sides[last]}
    taps = {}
    for stride, grid in nearest.items():
        sharing = [other for other in nearest if nearest[other] == grid]
        there = of_grid[grid]
        share = math.ceil(len(there) * (sharing.index(stride) + 1) / len(sharing))
        taps[stride] = there[share - 1]
    taps[32] = last
    # Distinct maps, if there are three.
    if taps[16] == last:
        taps[16] = max(last - 1, 0)
    if taps[8] == taps[16] and taps[16] + 1 < last:
        taps[16] += 1
    elif taps[8] >= taps[16]:
        taps[8] = max(taps[16] - 1, 0)
    early = [n for n in range(taps[8]) if sides[n] == math.ceil(side / EARLY)]
    return ({EARLY: early[-1]} if early else {}) | taps


def probe_images(network: nn.Module, side: int) -> Tensor:
    """Return an image for comparisons, ``(1, 3, side, side)``, on a network's device."""
    like = _like(network)
    return torch.linspace(-1, 1, 3 * side * side, **like).sin().reshape(1, 3, side, side)


def over_channels(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a norm over the channels of a map ``(B, C, h, w)``, or convolutions with norms."""
    if isinstance(norm, nn.GroupNorm | nn.Sequential) or type(norm).__name__.endswith("2d"):
        return norm(x)  # type: ignore[no-any-return]
    # torch's RMS norms round by the layout of their input.
    channels_last = x.permute(0, 2, 3, 1).contiguous()
    return norm(channels_last).permute(0, 3, 1, 2)  # type: ignore[no-any-return]


def tail_of(network: nn.Module, last: object, feature_map: Tensor) -> Tail:
    """Return what a network's own forward pass puts behind its last map.

    Args:
        network: The network, in ``eval()``.
        last: Its features.
        feature_map: Its last map, ``(B, C, h, w)``.
    """
    modules = dict(network.named_modules())
    pooled = tuple(name for name in _POOLED_NORMS if _is_norm(modules.get(name)))
    own = ("norm",) if _is_norm(modules.get("norm")) else ()
    if layout_of(last, feature_map) is not None:
        return Tail(False, pooled)
    normed = over_channels(modules["norm"], feature_map) if own else feature_map
    is_map = isinstance(last, Tensor) and last.ndim == 4 and last.shape[2:] == feature_map.shape[2:]
    if is_map and layout_of(last, normed) is None:
        return Tail(True, pooled)
    return Tail(False, (*own, *pooled))


def _is_norm(module: nn.Module | None) -> bool:
    return isinstance(module, nn.LayerNorm) or "Norm" in type(module).__name__.split("Batch")[0]


def _like(network: nn.Module) -> dict[str, Any]:
    weight = next(p for p in network.parameters() if p.is_floating_point())
    return {"device": weight.device, "dtype": weight.dtype}


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


@lru_cache(maxsize=8)  # logged once: a teacher's branches are alike
def _log(text: str) -> None:
    logging.getLogger(__name__).info(text)

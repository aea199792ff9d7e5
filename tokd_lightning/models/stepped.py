"""A network of timm that stops between its blocks, for teachers whose branches meet there."""

from collections.abc import Callable
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from tokd_lightning.models.backbone import EARLY, STRIDES
from tokd_lightning.models.layouts import Layout, layout_of
from tokd_lightning.models.recompute import recomputing
from tokd_lightning.models.sizes import Misfit
from tokd_lightning.models.tapped import TappedBackbone, chains, over_channels, probe_images

# What networks put behind their last block, in the layout of its output.
_BEHIND = ("norm", "final_conv", "conv_head")
_NECK = "neck"  # of SAM's encoders: convolutions and norms on the map
_KNOWN: dict[tuple[type, str, int, bool], tuple[Any, ...]] = {}  # what was found and compared once


Inputs = tuple[tuple[Any, ...], dict[str, Any]]
"""Further arguments of a block, by position and by name."""


class State(NamedTuple):
    """State of a network between two blocks.

    Attributes:
        x: Output of the last block: a map or tokens, whatever the network's layout, or a tuple that
            begins with them.
        inputs: Further arguments of each block, such as rotary position embeddings.
    """

    x: Any
    inputs: list[Inputs]


class _Entered(Exception):  # ends a forward pass, not an error
    """Raised in place of the last block."""


class SteppedBackbone(TappedBackbone):
    """A :class:`TappedBackbone` that runs in steps: one for each map, with the blocks before it.

    The network's own ``forward_features`` runs up to the first block, with stand-ins for the blocks
    that record their further arguments; then the blocks run one by one. When it is built,
    every map is compared bit for bit with that of ``forward_intermediates``, at the network's own
    size, and so is the network in which every map was read and written back.

    Args:
        network: As in :class:`TappedBackbone`.
        name: As in :class:`TappedBackbone`.
        size: As in :class:`TappedBackbone`.
        side: As in :class:`TappedBackbone`.

    Attributes:
        ends: Stride -> number of the block whose output is the map there.
        layouts: Stride -> layout of that output.
        behind: Names of the modules that follow the last block, in its layout.
        norms: Names of the norms that follow those, over the channels of the map.

    Raises:
        Misfit: It has no such chain of blocks, or the maps differ.
    """

    whole: bool
    ends: dict[int, int]
    layouts: dict[int, Layout]
    behind: tuple[str, ...]
    norms: tuple[str, ...]

    def __init__(self, network: nn.Module, name: str, size: int, side: int) -> None:
        super().__init__(network, name, size, side)
        # what shapes alone tell may be wrong of data
        key = (type(network), name, side, next(network.parameters()).is_meta)
        if key not in _KNOWN:
            was_training = network.training
            network.eval()
            self._find()
            network.train(was_training)
            _KNOWN[key] = (self.chain, self.whole, self.ends, self.layouts, self.behind, self.norms)
        self.chain, self.whole, self.ends, self.layouts, self.behind, self.norms = _KNOWN[key]

    def _find(self) -> None:
        """Find the blocks and compare the maps."""
        reason = "its blocks are in no known place"
        for chain, whole in product(chains(self.network), (True, False)):
            try:
                self._compare(chain, whole)
                return
            except Exception as error:  # third-party code raises anything
                said = [*str(error).strip().splitlines(), type(error).__name__][0]
                said = said.replace(f"'{_Recorder.__name__}' object", "a block's output")
                reason = (
                    said if isinstance(error, Misfit) else f"its blocks are no chain ({said[:80]})"
                )
        raise Misfit(f"it cannot stop between its blocks: {reason}")

    def begin(self, x: Tensor) -> State:
        """Return the state before the first block of images ``(B, 3, S, S)``."""
        self.check(x)
        return self._enter(self.padded(x))

    def _enter(self, x: Tensor) -> State:
        state: State = _enter(self.network, self.chain, self.whole, x)
        return state

    def advance(self, index: int, state: Any, maps: dict[int, Tensor]) -> State:
        """Run the blocks of one step and return the state behind them.

        Args:
            index: Number of the step.
            state: State behind the previous one.
            maps: Stride -> map; the step's own maps are added.
        """
        after: State = state
        stride = STRIDES[index]
        start = self.ends[STRIDES[index - 1]] + 1 if index else 0
        for number in range(start, self.ends[stride] + 1):
            after = self.run_block(number, after)
            if number == self.ends.get(EARLY) and self.finest <= EARLY:
                maps[EARLY] = self.fit(self.layouts[EARLY].read(_first(after.x)), EARLY)
        maps[stride] = self.fit(self.read(index, after), stride)
        return after

    def written_maps(self, x: Tensor) -> dict[int, Tensor]:
        """Return stride -> map of images on the network's own grid, each made from the last.

        Every map is written back, so that later ones depend on it and have a gradient for it.
        """
        state: Any = self.begin(x)
        maps = {}
        for index, stride in enumerate(STRIDES):
            state = self.advance(index, state, {})
            maps[stride] = self.read(index, state)
            state = self.write(index, state, maps[stride])
        return maps | {STRIDES[-1]: self.finish(state)}

    def run_block(self, number: int, state: State) -> State:
        """Run one block."""
        args, kwargs = state.inputs[number]
        block = self.blocks[number]
        with recomputing(block, self.recomputes):
            return state._replace(x=block(state.x, *args, **kwargs))

    def read(self, index: int, state: Any) -> Tensor:
        """Return the map ``(B, C, h, w)`` in the state behind a step, on the network's grid."""
        return self.layouts[STRIDES[index]].read(_first(state.x))

    def write(self, index: int, state: Any, feature_map: Tensor) -> State:
        """Return the state behind a step with another map; prefix tokens stay."""
        x = self.layouts[STRIDES[index]].write(_first(state.x), feature_map)
        return State((x, *state.x[1:]) if isinstance(state.x, tuple) else x, state.inputs)

    def finish(self, state: Any) -> Tensor:
        """Return the last map of the state behind the last step, with what follows it."""
        x: Tensor = _first(state.x)
        for name in self.behind:
            x = self.network.get_submodule(name)(x)
        x = self.layouts[STRIDES[-1]].read(x)
        for name in self.norms:
            x = over_channels(self.network.get_submodule(name), x)
        return self.fit(x, STRIDES[-1])

    @torch.no_grad()
    def _compare(self, chain: str, whole: bool) -> None:
        """Find the blocks whose outputs are the maps, and compare all of them."""
        self.chain, self.whole = chain, whole
        network: Any = self.network
        x = probe_images(network, self.side)
        taps = sorted({*self.taps.values()})
        features, maps = network.forward_intermediates(x, indices=taps)
        raw = dict(zip(taps, maps, strict=True))
        last = self.fit(self._finished(network, features, maps[-1]), STRIDES[-1])
        calls: list[nn.Module] = []
        with register_module_forward_pre_hook(lambda module, _: calls.append(module)):
            state = self._enter(x)
        while whole and not isinstance(calls[-1], _Recorder):
            if any(True for _ in calls.pop().parameters()):
                raise Misfit("layers outside its blocks would run before them")
        states = []
        for number in range(len(self.blocks)):
            state = self.run_block(number, state)
            states.append(state)
        self.ends, self.layouts = {}, {}
        for stride, tap in self.taps.items():
            found = [(n, layout_of(_first(s.x), raw[tap])) for n, s in enumerate(states)]
            ends = [(n, layout) for n, layout in found if layout is not None]
            if not ends:
                if stride == EARLY:
                    continue
                raise Misfit(f"its map at stride {stride} is not the output of a block")
            self.ends[stride], self.layouts[stride] = ends[-1]
        order = [self.ends[stride] for stride in STRIDES]
        if x.is_meta and len({*order}) < len(order):  # blocks of one grid look alike there
            self.ends = dict(self.taps)  # one grid, one map of each block
            order = [self.ends[stride] for stride in STRIDES]
        if order != sorted(set(order)):
            raise Misfit("fewer than three of its blocks end at different maps")
        self._find_last(states[-1], last)
        self._check_writing(x, last)

    def _find_last(self, state: State, last: Tensor) -> None:
        """Find what follows the last block, by the map that the network makes itself."""
        if self.ends[STRIDES[-1]] != len(self.blocks) - 1:
            raise Misfit("blocks follow its last map")
        modules = dict(self.network.named_modules())
        for names in ((), *((name,) for name in (*_BEHIND, _NECK) if name in modules)):
            self.behind, self.norms = names, self.tail.norms
            if names == self.tail.norms[:1]:
                self.norms = self.tail.norms[1:]
            if names == (_NECK,):
                self.behind, self.norms = (), (_NECK, *self.tail.norms)
            if _same(self.finish, state, last):
                return
        raise Misfit("what follows its last block is not known")

    def _check_writing(self, x: Tensor, last: Tensor) -> None:
        state: Any = self._enter(x)
        for index in range(len(STRIDES)):
            state = self.advance(index, state, {})
            state = self.write(index, state, self.read(index, state).clone())
        if not _same(self.finish, state, last):
            raise Misfit("its output changes if a map is read and written back unchanged")


def _first(x: Any) -> Any:
    return x[0] if isinstance(x, tuple) else x


def _same(finish: Callable[[State], Tensor], state: State, expected: Tensor) -> bool:
    try:
        found = finish(state)
    except Exception:  # a module that takes something else
        return False
    if found.is_meta:
        return found.shape == expected.shape
    return torch.equal(found, expected)


class _Recorder(nn.Module):
    """Stands for a block: keeps its further arguments and returns the first.

    Args:
        seen: The arguments of the blocks before it; its own are added.
        last: Whether the forward pass ends here.
    """

    def __init__(self, seen: list[tuple[Any, Inputs]], last: bool) -> None:
        super().__init__()
        self.seen = seen
        self.last = last

    def forward(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Record the arguments.

        Raises:
            _Entered: The forward pass ends here.
        """
        self.seen.append((x, (args, kwargs)))
        if self.last:
            raise _Entered
        return x


@torch.compiler.disable  # type: ignore[untyped-decorator]  # torch has no types here
def _enter(network: Any, chain: str, whole: bool, x: Tensor) -> State:
    """Run a network up to its first block, and record the further arguments of all blocks.

    Args:
        network: The network.
        chain: Name of the container of its blocks.
        whole: Whether its forward pass runs to the end, without what follows the blocks; else it is
            ended by an exception, which ``torch.export`` does not follow.
        x: Images.
    """
    container = network.get_submodule(chain)
    blocks = list(container.named_children())
    behind = [(name, part) for name, part in network.named_children() if whole and name in _BEHIND]
    seen: list[tuple[Any, Inputs]] = []
    try:
        for number, (name, _) in enumerate(blocks):
            setattr(container, name, _Recorder(seen, number == len(blocks) - 1 and not whole))
        for name, _ in behind:
            setattr(network, name, nn.Identity())
        network.forward_features(x)
    except _Entered:
        pass
    finally:
        for name, part in blocks:
            setattr(container, name, part)
        for name, part in behind:
            setattr(network, name, part)
    if len(seen) != len(blocks):
        raise Misfit("its forward pass does not run its blocks one after another")
    return State(seen[0][0], [inputs for _, inputs in seen])

"""The interface of backbones (S_B, T_r and T_f of Sec. 3 and 4), and that of CNNs in stages."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from tokd_lightning.models.recompute import recomputing
from tokd_lightning.models.weight_file import Normalisation

STRIDES = (8, 16, 32)
EARLY = 4


class Backbone(nn.Module):
    """A network without classifier, as a chain of stages that other modules can interleave.

    Args:
        stages: The parts of the network, in order, each a sequence itself.
        strides: Stride at the end of each stage; of two equal ones, the later stage counts.
        channels: Channels at the end of each stage.
        coupled: Whether a dual-branch network couples its branches after the stage (Fig. 1).
        early: Number of modules of the first stage after which there is a map at stride 4; 0 if
            there is none.

    Attributes:
        finest: Finest stride of the returned maps: 8, or 4 after :func:`keep_maps_from`.
        recomputes: Whether activations inside blocks are recomputed in the backward pass, see
            :mod:`tokd_lightning.models.recompute`.
        trained_on: Normalisation of the images its pretrained weights were trained on; None without
            such weights, or if unknown.
    """

    def __init__(
        self,
        stages: Sequence[nn.Sequential],
        strides: Sequence[int],
        channels: Sequence[int],
        coupled: Sequence[bool],
        early: int = 0,
    ) -> None:
        super().__init__()
        self.stages = nn.ModuleList(stages)
        self.strides = tuple(strides)
        self.channels = tuple(channels)
        self.coupled = tuple(coupled)
        self.early = early
        self.finest = STRIDES[0]
        self.recomputes = False
        self.trained_on: Normalisation | None = None

    @property
    def built_for(self) -> dict[str, int]:
        """The ``size`` of images that the network was built for; empty if it takes any."""
        return {}

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        """Return stride -> map ``(B, C, H / stride, W / stride)`` of images ``(B, 3, H, W)``."""
        maps: dict[int, Tensor] = {}
        for index in range(len(self.stages)):
            x = self.advance(index, x, maps)
        return maps

    def groups(self) -> dict[str, list[nn.Module | nn.Parameter]]:
        """Return the parts of the network by name, each parameter in one, stem first."""
        return {
            f"stages.{number}.{name}": [part]
            for number, stage in enumerate(self.stages)
            for name, part in stage.named_children()
        }

    def begin(self, x: Tensor) -> Any:
        """Return the state before the first stage; here the images."""
        return x

    def read(self, index: int, state: Any) -> Tensor:
        """Return the map in the state behind a stage; here the state."""
        return state  # type: ignore[no-any-return]

    def write(self, index: int, state: Any, feature_map: Tensor) -> Any:
        """Return the state behind a stage with another map; here that map."""
        return feature_map

    def finish(self, state: Any) -> Tensor:
        """Return the last map of the state behind the last stage; here the state."""
        return state  # type: ignore[no-any-return]

    def fit(self, feature_map: Tensor, stride: int) -> Tensor:
        """Return a map of the network on the grid of its stride; here they are the same."""
        return feature_map

    def advance(self, index: int, x: Any, maps: dict[int, Tensor]) -> Any:
        """Run one stage and return its output.

        Args:
            index: Number of the stage.
            x: Output of the previous stage, or images.
            maps: Stride -> map; the stage's own maps are added.
        """
        stage = self.stages[index]
        with recomputing(stage, self.recomputes):
            if index == 0 and self.early and self.finest <= EARLY:
                for number, module in enumerate(stage.children(), start=1):
                    x = module(x)
                    if number == self.early:
                        maps[EARLY] = x
            else:
                x = stage(x)
        maps[self.strides[index]] = x
        return x


def keep_maps_from(network: nn.Module, stride: int) -> None:
    """Set the finest stride of the maps that backbones in a network return; the default is 8.

    A map at stride 4 is large and rarely read. Networks without such a map return none there.

    Args:
        network: A student or a teacher; changed in place, weights and state dict are not.
        stride: The finest stride that is read, 4 or 8.
    """
    for module in network.modules():
        if isinstance(module, Backbone):
            module.finest = stride

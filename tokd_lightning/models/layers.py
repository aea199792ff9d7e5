"""Layers of a backbone in order, for learning rates that fall towards the input."""

from typing import Any

from torch import nn

from tokd_lightning.models.backbone import Backbone
from tokd_lightning.models.recompute import blocks_in
from tokd_lightning.models.tuning import bodies_of


def layers_of(body: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of a backbone by layer, from the input to the output.

    A layer is a block, or what is between blocks: a stem with its tokens and positions is one
    layer, and so is the norm behind the last block.
    """
    found: list[list[nn.Parameter]] = []
    follows = False  # whether the last layer is one module without children, such as a convolution
    whole: list[list[nn.Module | nn.Parameter]] = [[body]]
    for parts in body.groups().values() if isinstance(body, Backbone) else whole:
        if len(parts) == 1 and isinstance(parts[0], nn.Module):
            for block in blocks_in(parts[0]):
                single = not any(block.children())
                if single and follows:
                    found[-1] += block.parameters()
                else:
                    found.append(list(block.parameters()))
                follows = single
        else:
            found.append([p for part in parts for p in _parameters(part)])
    return [layer for layer in found if layer]


def _parameters(part: nn.Module | nn.Parameter) -> list[nn.Parameter]:
    return [part] if isinstance(part, nn.Parameter) else list(part.parameters())


def decayed_groups(
    network: nn.Module, parameters: list[nn.Parameter], decay: float
) -> tuple[list[dict[str, Any]], list[float]]:
    """Group parameters by the factor of their learning rate.

    With L layers, layer l = 1 … L of a backbone has the factor decay^(L + 1 - l), and everything
    outside the backbones (classifier, RFAMs, projectors) the factor 1.

    Args:
        network: The network.
        parameters: Those that train, of the network and of what trains with it.
        decay: In (0, 1].

    Returns:
        The parameter groups of an optimizer, and the factor of each.

    Source:
        H. Bao et al., "BEiT: BERT pre-training of image transformers", ICLR 2022.
    """
    factor: dict[int, float] = {}
    for body in bodies_of(network).values():
        layers = layers_of(body)
        for number, layer in enumerate(layers):
            factor |= {id(p): decay ** (len(layers) - number) for p in layer}
    groups: dict[float, list[nn.Parameter]] = {}
    for parameter in parameters:
        groups.setdefault(factor.get(id(parameter), 1.0), []).append(parameter)
    factors = sorted(groups)
    return [{"params": groups[f]} for f in factors], factors

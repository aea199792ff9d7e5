"""Layers of a backbone in order, for learning rates that fall towards the input."""

from collections.abc import Iterator
from typing import Any

from torch import nn

from tokd_lightning.models.tuning import bodies_of

_LISTS = (nn.Sequential, nn.ModuleList)


def layers_of(body: nn.Module) -> list[list[nn.Parameter]]:
    """Return the parameters of a backbone by layer, from the input to the output.

    A layer is a block of a stage, or a module between blocks. Parameters of the backbone itself
    (tokens, positions) belong to the first layer.
    """
    found = [[*body.parameters(recurse=False)]]
    found += [list(module.parameters()) for module in _blocks(body)]
    layers = [parameters for parameters in found if parameters]
    if found[0] and len(layers) > 1:
        layers[:2] = [[*layers[0], *layers[1]]]
    return layers


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """Yield modules in order, descending where there is a list of blocks of one class."""
    for child in module.children():
        below = [*child.children()]
        stacks = [x for x in (child, *below) if isinstance(x, _LISTS) and _alike(x)]
        if isinstance(child, _LISTS) or stacks:
            yield from _blocks(child)
        else:
            yield child


def _alike(blocks: nn.Module) -> bool:
    """Return whether a list has at least two children, all of one class that has parameters."""
    children = [*blocks.children()]
    classes = {type(child) for child in children}
    return len(children) > 1 and len(classes) == 1 and any(True for _ in children[0].parameters())


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

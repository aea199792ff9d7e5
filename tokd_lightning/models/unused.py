"""Removal of the weights behind a network's last map: they would never get a gradient."""

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor, nn

from tokd_lightning.models.probe import meta_copy


class _Removed(nn.Module):
    """Stands for a module whose output nothing reads."""

    def forward(self, x: Any, *_: object, **__: object) -> Any:
        """Return the first argument."""
        return x


def remove_unused(
    network: nn.Module, last: Tensor, run: Callable[[nn.Module], object]
) -> list[str]:
    """Remove the weights on which a network's last map does not depend.

    Classifiers, attention pools, class-attention blocks and the like: DDP would refuse parameters
    without a gradient, and checkpoints would carry them. What the network's code still needs to run
    is kept and frozen.

    Args:
        network: Changed in place.
        last: Its last map, with its graph.
        run: Runs a copy of the network on the meta device.

    Returns:
        Names of what was removed or frozen.
    """
    reached = _leaves(last)
    unused = {n for n, p in network.named_parameters() if p.requires_grad and id(p) not in reached}
    gone = []
    for name in list(_largest(network, unused)):
        owner, _, leaf = name.rpartition(".")
        parent = network.get_submodule(owner)
        kept = getattr(parent, leaf)
        setattr(parent, leaf, _stand_in(kept))
        try:
            run(meta_copy(network))
        except Exception:  # third-party code may read anything
            setattr(parent, leaf, kept)
            kept.requires_grad_(False)
        gone.append(name)
    return gone


def _stand_in(part: nn.Module | nn.Parameter) -> nn.Module | None:
    if isinstance(part, nn.Parameter):
        return None
    return type(part)() if isinstance(part, nn.Sequential | nn.ModuleList) else _Removed()


def _leaves(output: Tensor) -> set[int]:
    """Return the ids of the tensors that an output's backward pass reaches."""
    found: set[int] = set()
    seen: set[Any] = set()
    waiting: list[Any] = [output.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            found.add(id(node.variable))
        waiting += [following for following, _ in node.next_functions]
    return found


def _largest(network: nn.Module, unused: set[str], prefix: str = "") -> Iterator[str]:
    """Yield the largest parts of which all parameters are unused."""
    for name, child in network.named_children():
        inside = {f"{prefix}{name}.{key}" for key, _ in child.named_parameters()}
        if inside and inside <= unused:
            yield f"{prefix}{name}"
        elif inside & unused:
            yield from _largest(child, unused, f"{prefix}{name}.")
    for name, _ in network.named_parameters(recurse=False):
        if f"{prefix}{name}" in unused:
            yield f"{prefix}{name}"

"""Compilation of the networks at the first batch."""

from torch import nn

from tokd_lightning.lightning_internals import is_compiled

BACKEND = "inductor"


def compile_in_place(*networks: nn.Module) -> None:
    """Compile networks when they are first called; weights, names and hooks remain unchanged.

    The first call compiles for its batch size, the first call with another size for any size.
    Copies lose the compiled code, and checkpoints do not contain it.

    Args:
        networks: Changed in place; networks already compiled are skipped.
    """
    for network in networks:
        if not is_compiled(network):
            network.compile(backend=BACKEND)

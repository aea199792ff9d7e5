"""Layouts of a network's state between two blocks, and the feature map in it."""

from functools import lru_cache
from typing import NamedTuple

import torch
from torch import Tensor


class Layout(NamedTuple):
    """Where the feature map ``(B, C, h, w)`` is in a state.

    Attributes:
        kind: ``NCHW``, ``NHWC``, or ``tokens``: ``(B, prefix + h * w, C)``, with class and register
            tokens in front.
        grid: h and w.
        order: For tokens in another order, the number of the token in each cell, row by row.
    """

    kind: str
    grid: tuple[int, int]
    order: tuple[int, ...] | None = None

    def read(self, state: Tensor) -> Tensor:
        """Return the map in a state."""
        if self.kind == "NCHW":
            return state
        if self.kind == "NHWC":
            return state.permute(0, 3, 1, 2)
        tokens = state[:, state.shape[1] - self.grid[0] * self.grid[1] :]
        if self.order is not None:
            tokens = tokens[:, list(self.order)]
        channels_first = tokens.transpose(1, 2)
        return channels_first.reshape(tokens.shape[0], tokens.shape[2], *self.grid)

    def write(self, state: Tensor, feature_map: Tensor) -> Tensor:
        """Return a state with another map, and with the prefix tokens that it had."""
        if self.kind == "NCHW":
            return feature_map
        if self.kind == "NHWC":
            return feature_map.permute(0, 2, 3, 1)
        tokens = feature_map.flatten(2).transpose(1, 2)
        if self.order is not None:
            tokens = tokens[:, _inverse(self.order)]
        prefix = state.shape[1] - tokens.shape[1]
        return torch.cat([state[:, :prefix], tokens], dim=1) if prefix else tokens


@lru_cache(maxsize=16)
def _inverse(order: tuple[int, ...]) -> list[int]:
    return sorted(range(len(order)), key=order.__getitem__)


def layout_of(state: object, feature_map: Tensor) -> Layout | None:
    """Return the layout in which a state holds exactly this map; None if it does not.

    Args:
        state: What a block returned.
        feature_map: The map ``(B, C, h, w)``; on the meta device only shapes are compared.
    """
    if not isinstance(state, Tensor):
        return None
    channels, grid = feature_map.shape[1], (feature_map.shape[2], feature_map.shape[3])
    cells = grid[0] * grid[1]
    kinds = ("NCHW", "NHWC") if state.ndim == 4 else ("tokens",)
    if state.ndim not in (3, 4) or (
        state.ndim == 3 and (state.shape[2] != channels or state.shape[1] < cells)
    ):
        return None
    for kind in kinds:
        layout = Layout(kind, grid)
        found = layout.read(state)
        if found.shape == feature_map.shape and (found.is_meta or torch.equal(found, feature_map)):
            return layout
    if state.ndim == 3 and state.shape[1] == cells and not state.is_meta:
        return _in_another_order(state, feature_map)
    return None


def _in_another_order(state: Tensor, feature_map: Tensor) -> Layout | None:
    """Find the order of tokens that makes the map, by their equal values."""
    number = {tuple(token.tolist()): index for index, token in enumerate(state[0])}
    cells = feature_map[0].flatten(1).T
    order = tuple(number.get(tuple(cell.tolist()), -1) for cell in cells)
    if sorted(order) != list(range(len(order))):
        return None
    layout = Layout("tokens", (feature_map.shape[2], feature_map.shape[3]), order)
    return layout if torch.equal(layout.read(state), feature_map) else None

"""Networks rebuilt from the ``spec`` in a checkpoint or an exported model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.detectors import build_detector
from tokd_lightning.models.objectives import NORMALISED, normalise_head
from tokd_lightning.models.student import Student
from tokd_lightning.models.teacher import DualBranchTeacher

DETECTORS_ROOM = "detectors."
"""Prefix of a detector's name among students."""


@contextmanager
def drawn_from(seed: int) -> Iterator[None]:
    """Draw initial weights, made on the CPU, from a separate seed without affecting other RNGs."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        yield


def build_student(
    name: str,
    pretrained: bool | str = False,
    options: Mapping[str, Any] | None = None,
    size: int | None = None,
) -> nn.Module:
    """Build a student: a backbone with a linear classifier, or a detector with maps.

    Args:
        name: Name for :func:`~tokd_lightning.models.build_backbone`, or ``detectors.NAME``.
        pretrained: ImageNet weights: True, False or a path.
        options: Options of a detector.
        size: Side of the images in pixels, for backbones that are built for one size.

    Raises:
        TokdError: The network does not exist or has no maps, or options are given for a backbone.
    """
    if not name.startswith(DETECTORS_ROOM):
        if options:
            raise TokdError(f"student_options are for students that are detectors, not for {name}")
        return Student(name, pretrained, size=size)
    spec = {**(options or {}), "detector": name.removeprefix(DETECTORS_ROOM)}
    detector = build_detector({**spec, "pretrained": pretrained})
    if detector.refusal:
        raise TokdError(f"{detector.title} cannot be a student: {detector.refusal}")
    return detector


def rebuild(spec: Mapping[str, Any], kind: str = "student") -> nn.Module:
    """Build a network without its weights.

    Args:
        spec: The network's ``spec``.
        kind: ``teacher``, ``student`` or ``detector``; a student may be a detector too.

    Raises:
        TokdError: The network does not exist, or does not have these options.
        TypeError: The spec is of another kind of network.
    """
    options = dict(spec)
    normalised = options.pop(NORMALISED, False)
    network: nn.Module
    if "detector" in options:
        network = build_detector(options)
    else:
        network = DualBranchTeacher(**options) if kind == "teacher" else Student(**options)
    if normalised:
        normalise_head(network)
    return network

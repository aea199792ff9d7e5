"""Outputs of networks, input of distillers: logits, and feature maps by stride (Sec. 4.1)."""

from typing import NamedTuple

from torch import Tensor

Shapes = dict[int, tuple[int, int, int]]
"""Stride -> shape ``(C, H, W)`` of a network's map, without the batch."""


class StudentOutput(NamedTuple):
    """Output of the student: classifier G_Sc on the backbone S_B.

    Attributes:
        logits: Class scores, ``(B, num_classes)``; class 1 is fake.
        maps: Stride (8, 16, 32; 4 on demand) -> S_B's map there, ``(B, C, H, W)``; stride 32 is
            S_B(x) of Eq. 2.
    """

    logits: Tensor
    maps: dict[int, Tensor]


class TeacherOutput(NamedTuple):
    """Output of the teacher T (Sec. 3), with one or two branches.

    Attributes:
        logits: Class scores, ``(B, num_classes)``; class 1 is fake.
        rgb: Stride (8, 16, 32; 4 on demand) -> the map of T_r there, ``(B, C, H, W)``, after the
            RFAM of its stage if there is one; stride 32 is T_r(x) of Eq. 4. Empty for a teacher
            without this branch.
        frequency: The same for T_f; stride 32 is T_f(x^F) of Eq. 5.
    """

    logits: Tensor
    rgb: dict[int, Tensor]
    frequency: dict[int, Tensor]

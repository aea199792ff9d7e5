"""Distillation methods: Sec. 4 and, one file per cited method, the other columns of Table 3."""

from tokd_lightning.distillation.distiller import Branches, Distiller
from tokd_lightning.distillation.projectors import AuxiliaryClassifier, TeacherProjectors
from tokd_lightning.distillation.rotation import Rotation
from tokd_lightning.distillation.rotation_optimizer import RotationOptimizer
from tokd_lightning.distillation.tokd import TOKD
from tokd_lightning.distillation.vanilla import Vanilla

__all__ = [
    "TOKD",
    "AuxiliaryClassifier",
    "Branches",
    "Distiller",
    "Rotation",
    "RotationOptimizer",
    "TeacherProjectors",
    "Vanilla",
]

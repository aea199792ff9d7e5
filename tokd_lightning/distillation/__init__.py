"""Distillation methods: Sec. 4 and, one file per cited method, the other columns of Table 3."""

from tokd_lightning.distillation.add import ADD
from tokd_lightning.distillation.attention_transfer import AttentionTransfer
from tokd_lightning.distillation.branched import Branched
from tokd_lightning.distillation.distiller import Branches, Distiller
from tokd_lightning.distillation.fitnet import FitNet
from tokd_lightning.distillation.hinton import Hinton
from tokd_lightning.distillation.map_distiller import MapDistiller
from tokd_lightning.distillation.probabilistic import PKT
from tokd_lightning.distillation.projectors import AuxiliaryClassifier, TeacherProjectors
from tokd_lightning.distillation.rotation import Rotation
from tokd_lightning.distillation.rotation_optimizer import RotationOptimizer
from tokd_lightning.distillation.similarity import SimilarityPreserving
from tokd_lightning.distillation.tokd import TOKD
from tokd_lightning.distillation.tokd_with_add import TOKDWithADD
from tokd_lightning.distillation.vanilla import Vanilla
from tokd_lightning.distillation.variational import VID

__all__ = [
    "ADD",
    "PKT",
    "TOKD",
    "VID",
    "AttentionTransfer",
    "AuxiliaryClassifier",
    "Branched",
    "Branches",
    "Distiller",
    "FitNet",
    "Hinton",
    "MapDistiller",
    "Rotation",
    "RotationOptimizer",
    "SimilarityPreserving",
    "TOKDWithADD",
    "TeacherProjectors",
    "Vanilla",
]

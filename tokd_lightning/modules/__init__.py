"""The LightningModules: a shared base, teacher training and student training."""

from tokd_lightning.modules.detection import DetectionModule
from tokd_lightning.modules.distill import DistillModule
from tokd_lightning.modules.teacher import TeacherModule

__all__ = ["DetectionModule", "DistillModule", "TeacherModule"]

"""The LightningModules: a shared base, and training of teachers, students and detectors."""

from tokd_lightning.modules.detection import DetectionModule
from tokd_lightning.modules.detector import DetectorModule
from tokd_lightning.modules.distill import DistillModule
from tokd_lightning.modules.teacher import TeacherModule

__all__ = ["DetectionModule", "DetectorModule", "DistillModule", "TeacherModule"]

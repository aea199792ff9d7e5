"""The networks of Sec. 3 and Table 1: plain modules, usable without Lightning."""

from tokd_lightning.models.backbones import Backbone, build_backbone, keep_maps_from
from tokd_lightning.models.folding import frozen
from tokd_lightning.models.outputs import Shapes, StudentOutput, TeacherOutput
from tokd_lightning.models.rfam import RFAM
from tokd_lightning.models.student import Student
from tokd_lightning.models.teacher import DualBranchTeacher

__all__ = [
    "RFAM",
    "Backbone",
    "DualBranchTeacher",
    "Shapes",
    "Student",
    "StudentOutput",
    "TeacherOutput",
    "build_backbone",
    "frozen",
    "keep_maps_from",
]

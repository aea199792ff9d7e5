r"""Two-in-one knowledge distillation for facial forgery detection, on PyTorch Lightning.

The names that most programs need can be imported from here; each is loaded when it is first used.

The high-frequency image :math:`x^F` without the DCT coefficients of a triangle (Eq. 1):

>>> import torch
>>> from tokd_lightning import high_pass
>>> x = torch.ones(1, 3, 32, 32)  # a constant image has no high frequencies
>>> high_pass(x, cutoff=0.33).abs().max().item() < 1e-5
True

The dual-branch teacher with RGB-frequency attention (Sec. 3) and a student (Sec. 4.3):

>>> from tokd_lightning import DualBranchTeacher, Student
>>> teacher = DualBranchTeacher("resnet18_thin", pretrained=False).eval()
>>> teacher(torch.zeros(2, 3, 64, 64)).logits.shape
torch.Size([2, 2])

>>> student = Student("resnet18_thin", pretrained=False).eval()
>>> student(torch.zeros(2, 3, 64, 64)).maps[32].shape
torch.Size([2, 256, 2, 2])

The distiller TOKD (Sec. 4.2) returns the weighted losses of a step, and RotationOptimizer moves its
rotations (Eq. 16):

>>> from tokd_lightning import TOKD
>>> tokd = TOKD(student.shapes(64), teacher.shapes(64), dim=64)
>>> images, labels = torch.rand(2, 3, 64, 64), torch.tensor([0, 1])
>>> sorted(tokd(student(images), teacher(images), labels))
['ce', 'frequency', 'rgb']

>>> from tokd_lightning import RotationOptimizer
>>> RotationOptimizer(list(tokd.rotation.matrices().values()), lr=1e-3).defaults["lr"]
0.001

The LightningModules of the two trainings, for a Trainer of your own:

>>> from functools import partial
>>> from tokd_lightning import DistillModule, TeacherModule
>>> adam = partial(torch.optim.Adam, lr=1e-4)
>>> decay = partial(torch.optim.lr_scheduler.StepLR, step_size=5, gamma=0.1)
>>> TeacherModule(adam, decay, backbone="resnet18_thin", pretrained=False).kind
'teacher'

>>> DistillModule(partial(TOKD, dim=64), adam, decay, student="resnet18_thin").kind
'student'

The data modules of FaceForensics++, of Celeb-DF, and of lists and other trees:

>>> from tokd_lightning import CelebDFDataModule, FFPPDataModule, ManifestDataModule
>>> FFPPDataModule("data/ffpp", quality="c40", size=299).input_size
299

>>> CelebDFDataModule("data/celebdf", crop=224, size=256).input_size
224

>>> ManifestDataModule("data/own", manifest="list.csv").name
'manifest'

A trained run is read with :func:`load_run`; its ``model`` holds the network in its checkpoint:

>>> from tokd_lightning import load_run
>>> load_run("runs/missing")
Traceback (most recent call last):
tokd_lightning.errors.TokdError: runs/missing does not exist: ...

:func:`load_detector` reads an exported student as a :class:`Detector`, which scores pictures and
videos without torch:

>>> from tokd_lightning import Detector, load_detector
>>> load_detector("exported/missing")
Traceback (most recent call last):
tokd_lightning.errors.TokdError: exported/missing does not exist: ...

>>> Detector.score_video.__name__
'score_video'
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokd_lightning.deploy.detector import Detector as Detector
    from tokd_lightning.deploy.detector import load_detector as load_detector

__version__ = "0.1.0"
_NAMES = {
    "high_pass": "frequency",
    "DualBranchTeacher": "models",
    "Student": "models",
    "TOKD": "distillation",
    "RotationOptimizer": "distillation",
    "TeacherModule": "modules",
    "DistillModule": "modules",
    "FFPPDataModule": "data.ffpp",
    "CelebDFDataModule": "data.celebdf",
    "ManifestDataModule": "data.manifest_table",
    "load_run": "evaluation.open_run",
    "Detector": "deploy.detector",
    "load_detector": "deploy.detector",
}
_OTHERWISE = {"load_run": "open_run", "load_exported": "open_model"}  # names in their modules
_EARLIER = {"load_exported": "deploy.record"}  # kept for programs that import it
__all__ = ["__version__", *_NAMES]


def __getattr__(name: str) -> Any:
    places = _NAMES | _EARLIER
    if name not in places:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{places[name]}"), _OTHERWISE.get(name, name))


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES})

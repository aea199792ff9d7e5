"""The peer of a TOKD step: a straightforward loop in eager PyTorch.

It has the same networks and losses on the same batch and the same autocast, with standard tools:
`torch_dct` for the frequency view, the teacher as trained (batch norms not folded, NCHW),
`torch.nn.utils.parametrizations.orthogonal` for the rotations, trained by a backward pass through
them, and three backward passes in all: the two branches' gradients at the map, and L_S. It reads
its losses in every step.
"""

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import orthogonal

from benchmarks.frequency import full_transform
from benchmarks.training import mixed
from tokd_lightning.distillation.distiller import BRANCHES
from tokd_lightning.distillation.projectors import TeacherProjectors, student_projector
from tokd_lightning.models import DualBranchTeacher, Student

ALPHA = 10.0


class FullTransform(nn.Module):
    """Eq. 1 by the full DCT, a mask and the full inverse DCT.

    Args:
        cutoff: Legs of the zeroed triangle.
        size: Side of the images in pixels.
    """

    kept: Tensor

    def __init__(self, cutoff: float, size: int) -> None:
        super().__init__()
        frequencies = torch.arange(size, dtype=torch.float64) / size
        self.register_buffer("kept", (frequencies[:, None] + frequencies >= cutoff).float())

    def forward(self, x: Tensor) -> Tensor:
        """Filter images."""
        return full_transform(x, self.kept)


class Naive:
    """A step of TOKD on both branches with learned rotations.

    Args:
        teacher: The teacher as trained; it is copied.
        student: Name of the student.
        size: Side of the images in pixels.
        dim: d.
        device: Device to measure on.
        precision: Lightning's name of the precision.
        orthogonal_map: Torch's orthogonal parametrization: ``matrix_exp``, its default for square
            matrices, or ``cayley``.
    """

    def __init__(
        self,
        teacher: DualBranchTeacher,
        student: str,
        size: int,
        dim: int,
        device: torch.device,
        precision: str,
        orthogonal_map: str = "matrix_exp",
    ) -> None:
        self.precision = precision
        self.teacher = copy.deepcopy(teacher).eval().requires_grad_(False)
        self.teacher.high_pass = FullTransform(teacher.spec["cutoff"], size)
        self.teacher.to(device)
        self.student = Student(student).to(device)
        channels = self.student.shapes(size)[32][0]
        self.teacher_projectors = TeacherProjectors(teacher.rgb.channels[-1]).eval().to(device)
        self.projectors = nn.ModuleDict(
            {b: student_projector(b, channels, 256, 1, "each") for b in BRANCHES}
        ).to(device)
        self.rotations = nn.ModuleDict()
        for branch in BRANCHES:
            layer = nn.Linear(dim, dim, bias=False, device=device)
            nn.init.eye_(layer.weight)
            self.rotations[branch] = orthogonal(layer, orthogonal_map=orthogonal_map)
        trained = [*self.student.parameters(), *self.projectors.parameters()]
        self.optimizer = torch.optim.Adam(trained, lr=1e-4)
        self.rotation_optimizer = torch.optim.SGD(self.rotations.parameters(), lr=5e-5)
        self.dim = dim

    def __call__(self, batch: dict[str, Tensor]) -> dict[str, float]:
        """Run one step and return the losses."""
        image, device = batch["image"], batch["image"].device
        with mixed(self.precision, device):
            with torch.no_grad():
                seen = self.teacher(image)
                wanted = self.teacher_projectors(seen.rgb[32], seen.frequency[32])
            output = self.student(image)
            z = output.maps[32]
            losses = {"ce": functional.cross_entropy(output.logits, batch["label"])}
            rotated = {b: self._rotate(b, z) for b in BRANCHES}
            for branch, theirs in zip(BRANCHES, wanted, strict=True):
                ours = functional.normalize(self.projectors[branch](rotated[branch]).flatten(1))
                theirs = functional.normalize(theirs.flatten(1))
                losses[branch] = (ours - theirs).square().sum(1).mean()

        at_map = {
            b: torch.autograd.grad(losses[b], rotated[b], retain_graph=True)[0] for b in BRANCHES
        }
        self.optimizer.zero_grad()
        total = losses["ce"] + ALPHA * losses["rgb"] + ALPHA * losses["frequency"]
        torch.autograd.backward(total)
        self.optimizer.step()

        v = {b: at_map[b].flatten(1)[:, : self.dim].float() for b in BRANCHES}
        turned = {b: v[b] @ self.rotations[b].weight for b in BRANCHES}
        goal = (turned["rgb"].detach() + turned["frequency"].detach()) / 2
        towards = [-functional.cosine_similarity(turned[b], goal, eps=1e-30) for b in BRANCHES]
        self.rotation_optimizer.zero_grad()
        torch.autograd.backward(torch.stack(towards).mean(1).sum())
        self.rotation_optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    def _rotate(self, branch: str, z: Tensor) -> Tensor:
        flat = z.flatten(1)
        turned = flat[:, : self.dim] @ self.rotations[branch].weight.detach().T
        return torch.cat((turned.to(z.dtype), flat[:, self.dim :]), dim=1).reshape(z.shape)

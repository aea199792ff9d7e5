"""Gradient homogenization: rotations of the student's map per branch, Sec. 4.2, Eq. 11-15."""

import math
from collections.abc import Mapping
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from tokd_lightning.distillation.gradients import BranchGradients, Conflict, conflict, polar
from tokd_lightning.errors import TokdError

Layout = Literal["flat_prefix", "channels", "blocks"]
Target = Literal["mean", "mean_direction"]

PROBES = 8


class Rotation(nn.Module):
    """Rotates the student's map by one matrix of SO(d) per branch (Eq. 11, 12).

    In rows, ``m_k = z R_k^T``. All layouts rotate a prefix of the map flattened in the order
    C, H, W, and leave the rest unchanged:

    - ``flat_prefix``: the first d entries (the rule of RotoGrad);
    - ``blocks``: every whole chunk of d entries, each by the same matrix;
    - ``channels``: the first d channels at every position, an orthogonal 1x1 convolution.

    The matrices are constants of the forward: L_S never updates them (``requires_grad`` is off); a
    ``RotationOptimizer`` does, from :meth:`rows`. They stay float32 and the product is computed in
    at least float32 regardless of autocast: bfloat16 would lose orthogonality in the third digit.

    Args:
        shape: ``(C, H, W)`` of the map.
        dim: d, at least 2, at most C * H * W (``channels``: at most C).
        layout: See above. The paper does not specify it.
        branches: Names of the two branches; each becomes an attribute, its ``(d, d)`` matrix.
        init: "identity", or "random": uniform on SO(d), a different one per branch.
        seed: Seed of the random start, the same on every rank.
        target: g_n of Eq. 15: the "mean" of the branches' gradients, or of their unit vectors
            ("mean_direction"), so that no branch dominates by its scale.
        learned: False for a rotation that no optimizer updates.
        resolve: Treatment of the branches' gradients at the map, see ``BranchGradients``.

    Raises:
        TokdError: ``dim`` is larger than the layout allows, or below 2.
        ValueError: ``layout``, ``init`` or ``target`` is not one of its choices.
    """

    rgb: nn.Parameter
    frequency: nn.Parameter
    _probes: Tensor

    def __init__(
        self,
        shape: tuple[int, int, int],
        dim: int = 1024,
        layout: Layout = "flat_prefix",
        branches: tuple[str, str] = ("rgb", "frequency"),
        init: Literal["identity", "random"] = "identity",
        seed: int = 0,
        target: Target = "mean",
        learned: bool = True,
        resolve: Conflict = "none",
    ) -> None:
        super().__init__()
        if layout not in get_args(Layout) or init not in ("identity", "random"):
            raise ValueError(f"unknown layout {layout!r} or init {init!r}")
        if target not in get_args(Target):
            raise ValueError(f"target {target!r} is not one of {get_args(Target)}")
        channels, height, width = shape
        largest = channels if layout == "channels" else channels * height * width
        if not 2 <= dim <= largest:
            raise TokdError(
                f"dim {dim} does not fit: layout {layout} on a {channels}x{height}x{width} map "
                f"takes 2 to {largest}"
            )
        self.dim, self.layout, self.branches = dim, layout, branches
        self.target, self.learned = target, learned
        self.vectors = {
            "flat_prefix": 1,
            "blocks": channels * height * width // dim,
            "channels": height * width,
        }[layout]
        self.rotated = self.vectors * dim
        self.gradients = BranchGradients(branches, resolve)
        for number, branch in enumerate(branches):
            start = torch.eye(dim) if init == "identity" else random_rotation(dim, seed, number)
            self.register_parameter(branch, nn.Parameter(start, requires_grad=False))
        generator = torch.Generator().manual_seed(seed)
        signs = torch.randint(0, 2, (PROBES, dim), generator=generator) * 2.0 - 1.0
        self.register_buffer("_probes", signs, persistent=False)

    def matrices(self) -> dict[str, nn.Parameter]:
        """Return branch -> R_k, in the order of ``branches``."""
        return {branch: self.get_parameter(branch) for branch in self.branches}

    def forward(self, z: Tensor) -> dict[str, Tensor]:
        """Return branch -> m_k (Eq. 14), of ``z``'s shape and memory format, at least float32.

        If ``z`` needs a gradient, the branches' gradients are recorded for :meth:`take_gradients`.

        Args:
            z: S_B(x), ``(B, C, H, W)``.
        """
        aliases = self.gradients.aliases(z)
        with torch.autocast(z.device.type, enabled=False):
            return {b: self._rotate(aliases[b], matrix) for b, matrix in self.matrices().items()}

    def _rotate(self, z: Tensor, matrix: Tensor) -> Tensor:
        _, channels, height, width = z.shape
        touched = -(-self.rotated // (height * width))
        head, rest = z.split_with_sizes((touched, channels - touched), dim=1)
        flat = head.flatten(1)
        turned, kept = flat.tensor_split((self.rotated,), dim=1)
        turned = torch.cat((self._flat(self._vectors(turned) @ matrix.T), kept), dim=1)
        last = z.is_contiguous(memory_format=torch.channels_last)
        order = torch.channels_last if last else torch.contiguous_format
        head = turned.view(head.shape).contiguous(memory_format=order)
        return torch.cat((head, rest), dim=1) if touched < channels else head

    def _vectors(self, flat: Tensor) -> Tensor:
        """Return the vectors of length d, ``(B, vectors, d)``, in the prefix ``(B, rotated)``."""
        if self.layout == "channels":
            return flat.view(-1, self.dim, self.vectors).transpose(1, 2)
        return flat.view(-1, self.vectors, self.dim)

    def _flat(self, vectors: Tensor) -> Tensor:
        return (vectors.transpose(1, 2) if self.layout == "channels" else vectors).flatten(1)

    def take_gradients(self) -> dict[str, Tensor] | None:
        """Return branch -> v^k of the passes since the last call; see ``BranchGradients.take``.

        Returns:
            ``(N, C * H * W)`` each, including the loss's weight and any loss scale.
        """
        return self.gradients.pop()

    def rows(
        self, v: Mapping[str, Tensor], scale: Mapping[str, float]
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the optimizer's input: unit gradients V per branch and unit targets G (Eq. 15).

        Each sample's rotated entries are divided by their norm (the cosine of Eq. 13), however
        small: a loss scale need not be removed before. With ``vectors`` rows per sample every row
        is multiplied by the root of that number, so that a mean over rows is a mean over samples,
        also after rows of several ranks are concatenated.

        Args:
            v: Branch -> gradients, ``(N, C * H * W)``.
            scale: Branch -> weight alpha_k of its loss, divided out before Eq. 15.

        Returns:
            V per branch and G, ``(N * vectors, d)``; zero gradients give zero rows, non-finite
            gradients give non-finite rows.
        """
        units, target = self._directions(v, scale)
        return {branch: self._as_rows(u) for branch, u in units.items()}, self._as_rows(target)

    def _directions(
        self, v: Mapping[str, Tensor], scale: Mapping[str, float]
    ) -> tuple[dict[str, Tensor], Tensor]:
        prefix = {branch: v[branch][:, : self.rotated] for branch in self.branches}
        peak = torch.stack([x.abs().amax(1, keepdim=True) for x in prefix.values()]).amax(0)
        peak = torch.where(peak == 0, 1, peak)
        raw = {branch: x / peak / scale[branch] for branch, x in prefix.items()}
        units = {branch: polar(x)[0] for branch, x in raw.items()}
        parts = raw if self.target == "mean" else units
        return units, polar(torch.stack(tuple(parts.values())).mean(0))[0]

    def _as_rows(self, flat: Tensor) -> Tensor:
        return self._vectors(flat).flatten(0, 1) * math.sqrt(self.vectors)

    def gradient_diagnostics(
        self, v: Mapping[str, Tensor], scale: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Return the conflict before and after rotation (Fig. 4), as detached scalars.

        "Before" is the conflict at the branches, grad m_k = v^k R_k^T, "after" that at the
        backbone, v^k. Costs one product ``(N, d) x (d, d)`` per branch; call it before the
        rotations are updated.

        Args:
            v: Branch -> gradients, ``(N, C * H * W)``.
            scale: Branch -> weight alpha_k of its loss, divided out.

        Returns:
            cos(v^r, v^f) averaged over samples, as ``cosine_rotated_{before,after}`` over the
            rotated entries and ``cosine_full_{before,after}`` over all; ``norm_ratio``, mean |v^r|
            / mean |v^f|; ``rotation_loss_<branch>``, L_R (Eq. 13) as a mean over samples.
        """
        units, target = self._directions(v, scale)
        with torch.autocast(target.device.type, enabled=False):
            back = {
                b: self._flat(self._vectors(units[b]) @ r.T) for b, r in self.matrices().items()
            }
        first, second = self.branches
        after = (units[first] * units[second]).sum(1)
        before = (back[first] * back[second]).sum(1)
        full = {branch: polar(v[branch]) for branch in self.branches}
        shares = [full[branch][0][:, : self.rotated].norm(dim=1) for branch in self.branches]
        scalars = conflict(full, scale)
        undone = (shares[0] * shares[1] * (before - after)).mean()
        scalars["cosine_full_before"] = scalars["cosine_full_after"] + undone
        scalars["cosine_rotated_before"] = before.mean()
        scalars["cosine_rotated_after"] = after.mean()
        for branch in self.branches:
            scalars[f"rotation_loss_{branch}"] = -(units[branch] * target).sum(1).mean()
        return scalars

    @torch.no_grad()
    def drift(self) -> dict[str, Tensor]:
        """Return the distance of each R from the identity and from SO(d), as detached scalars.

        Returns:
            ``distance_<branch>``, |R - I|_F / sqrt(d), and ``orthogonality_<branch>``, an estimate
            of |R R^T - I|_F / sqrt(d) from eight fixed random vectors, in O(d^2).
        """
        scalars = {}
        for branch, r in self.matrices().items():
            off, probes = r.clone(), self._probes.to(r)
            off.diagonal().sub_(1)
            scalars[f"distance_{branch}"] = off.norm() / self.dim**0.5
            with torch.autocast(r.device.type, enabled=False):
                error = probes @ r @ r.T - probes
            scalars[f"orthogonality_{branch}"] = error.norm() / (PROBES * self.dim) ** 0.5
        return scalars


def random_rotation(dim: int, seed: int, number: int = 0) -> Tensor:
    """Return a matrix drawn uniformly from SO(dim), float32; no global random state is used.

    Args:
        dim: d.
        seed: Seed of the draw.
        number: Distinguishes several draws with one seed.
    """
    generator = torch.Generator().manual_seed(seed + 1_000_003 * number)
    q, r = torch.linalg.qr(torch.randn(dim, dim, generator=generator, dtype=torch.float64))
    rotation: Tensor = q * r.diagonal().sign()
    rotation[:, 0] *= torch.linalg.slogdet(rotation)[0]
    return rotation.to(torch.float32)

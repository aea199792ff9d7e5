"""Descent on the special orthogonal group for the rotations R_r and R_f, Eq. 16."""

from collections.abc import Callable, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

Direction = Literal["normalized", "adam", "plain"]

POLISH_EVERY = 100
DENSE_AGE = 5


class RotationOptimizer(Optimizer):
    r"""Updates each rotation along its Riemannian gradient by Cayley steps (Eq. 16).

    L_R (Eq. 13) is linear in R once the gradients are given, so its gradient in the tangent space
    needs no autograd. With the rows of V (each sample's unit gradient v_n^k) and G (its unit target
    g_n, Eq. 15), N of each,

    .. math:: A = -\operatorname{skew}(V^\top G) / N, \qquad
        R \leftarrow R \cdot \operatorname{Cayley}(-\mathrm{lr} \cdot D), \qquad
        \operatorname{Cayley}(X) = (I - X/2)^{-1} (I + X/2),

    with ``skew(X) = (X - X^T) / 2`` and the direction D:

    - ``normalized``: ``A d / |A|_F``, independent of the gradients' scale and without state;
    - ``adam``: Adam's quotient of A's moments, which is skew as A is;
    - ``plain``: A, literally Eq. 16, on the group.

    If ``2 N < d``, and D has that rank (not with ``adam``), the step is an update of rank 2 N in
    O(d^2 N) by Woodbury's identity; otherwise a dense solve. Rounding is removed from R by one
    Newton-Schulz iteration in float64 every 100 low-rank steps or 20 dense ones.

    No value is read back from the device: a batch with a non-finite gradient leaves all rotations
    unchanged and is counted in ``skipped``.

    Args:
        params: Rotations, ``(d, d)``, float32 or float64, ``requires_grad`` not needed.
        lr: eta_R, at least 0. In ``normalized`` a step turns R by ``lr * d`` in Frobenius norm.
        direction: Choice of D, see above.
        betas: Decay rates of the moments of ``adam``, in ``[0, 1)``.
        eps: Added to the root of the second moment of ``adam``.

    Raises:
        ValueError: An argument is out of its range.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float = 5e-5,
        direction: Direction = "normalized",
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:
        if lr < 0 or eps < 0 or not all(0 <= beta < 1 for beta in betas):
            raise ValueError(f"lr {lr} and eps {eps} must be >= 0, betas {betas} in [0, 1)")
        if direction not in get_args(Direction):
            raise ValueError(f"direction {direction!r} is not one of {get_args(Direction)}")
        super().__init__(params, {"lr": lr, "direction": direction, "betas": betas, "eps": eps})

    @property
    def skipped(self) -> Tensor:
        """Number of steps skipped because of non-finite gradients, a scalar tensor."""
        counts = [state["skipped"] for state in self.state.values()]
        return counts[0] if counts else torch.zeros(())

    @torch.no_grad()
    def step(  # type: ignore[override]  # made of rows, not of .grad, so it cannot go without them
        self,
        closure: Callable[[], Any] | None = None,
        *,
        rows: Sequence[tuple[Tensor, Tensor]],
    ) -> Tensor:
        """Update every rotation by one step.

        Args:
            closure: Called first if given, with gradients enabled, as with other optimizers.
            rows: For each parameter, in order, V and G, both ``(N, d)``, as returned by
                ``Rotation.rows``; rows of micro-batches or ranks are concatenated.

        Returns:
            Whether the step was taken, a boolean scalar tensor on the parameters' device.

        Raises:
            ValueError: ``rows`` does not match the parameters.
        """
        if closure is not None:
            with torch.enable_grad():
                closure()
        moves = [(group, r) for group in self.param_groups for r in group["params"]]
        if len(rows) != len(moves):
            raise ValueError(f"{len(moves)} rotations need as many pairs of rows, got {len(rows)}")
        pairs = [(v.to(r), g.to(r)) for (v, g), (_, r) in zip(rows, moves, strict=True)]
        for (_, r), (v, g) in zip(moves, pairs, strict=True):
            if v.shape != g.shape or v.dim() != 2 or v.shape[1] != r.shape[0]:
                raise ValueError(f"rows {tuple(v.shape)}, {tuple(g.shape)} for R {tuple(r.shape)}")
        finite = torch.stack([x.isfinite().all() for pair in pairs for x in pair]).all()
        left = iter(pairs)
        for group in self.param_groups:
            rotations = group["params"]
            mine = [next(left) for _ in rotations]
            alike = len({(r.shape, v.shape, r.device, r.dtype) for r, (v, _) in zip(
                rotations, mine, strict=True)}) == 1  # fmt: skip
            for batch in [slice(None)] if alike else [slice(n, n + 1) for n in range(len(mine))]:
                v, g = (torch.stack(part) for part in zip(*mine[batch], strict=True))
                v, g = torch.where(finite, v, 0), torch.where(finite, g, 0)
                with torch.autocast(v.device.type, enabled=False):
                    self._move(group, rotations[batch], v, across(v, g), finite)
        return finite

    def _move(
        self, group: dict[str, Any], rotations: list[Tensor], v: Tensor, w: Tensor, finite: Tensor
    ) -> None:
        """Update K rotations of one size by rows ``(K, N, d)``."""
        count, size = v.shape[1:]
        dense = group["direction"] == "adam" or 2 * count >= size
        for r in rotations:
            if not self.state[r]:
                self.state[r].update(steps=r.new_zeros(()), skipped=r.new_zeros(()), age=0)
            self.state[r]["steps"] += finite
            self.state[r]["skipped"] += ~finite

        if not dense:
            _turn_low_rank(rotations, v, w, group["lr"], group["direction"])
        for number, r in enumerate(rotations if dense else ()):
            if group["direction"] == "adam":
                moments = self._adam(group, self.state[r], r, v[number], w[number], finite)
                _turn(r, -group["lr"] * moments)
                continue
            product = v[number].T @ w[number]
            skew = product - product.T
            squares = skew.square().sum(), 2 * product.square().sum()
            _turn(r, skew * _rate(*squares, v[number], group["lr"], group["direction"]))

        for r in rotations:
            state = self.state[r]
            state["age"] += DENSE_AGE if dense else 1
            if state["age"] >= POLISH_EVERY:
                state["age"] = 0
                _polish(r)

    def _adam(
        self,
        group: dict[str, Any],
        state: dict[str, Any],
        r: Tensor,
        v: Tensor,
        w: Tensor,
        finite: Tensor,
    ) -> Tensor:
        if "mean" not in state:
            state.update(mean=torch.zeros_like(r), square=torch.zeros_like(r))
        product = v.T @ w
        a = (product.T - product) / (2 * len(v))
        beta1, beta2 = group["betas"]
        mean, square, steps = state["mean"], state["square"], state["steps"].clamp_min(1)
        mean.lerp_(a, (1 - beta1) * finite.to(r.dtype))
        square.lerp_(a.square(), (1 - beta2) * finite.to(r.dtype))
        root = (square / (1 - beta2**steps)).sqrt_().add_(group["eps"])
        adam: Tensor = (mean / (1 - beta1**steps)).div_(root).mul_(finite)
        return adam


def across(v: Tensor, g: Tensor) -> Tensor:
    """Return each row of ``g`` without its part along the same row of ``v``.

    That part is symmetric in ``V^T G`` and would only cancel in its skew part, leaving rounding
    noise where the two rows agree. A remainder below the rounding of ``g`` is set to zero.

    Args:
        v: Rows, ``(…, N, d)``.
        g: Rows, ``(…, N, d)``.
    """
    tiny = torch.finfo(v.dtype).tiny
    share = (v * g).sum(-1, keepdim=True) / v.square().sum(-1, keepdim=True).clamp_min(tiny)
    w = g - share * v
    noise = 16 * torch.finfo(v.dtype).eps * g.norm(dim=-1, keepdim=True)
    return torch.where(w.norm(dim=-1, keepdim=True) > noise, w, 0)


def _rate(square: Tensor, bound: Tensor, v: Tensor, lr: float, direction: str) -> Tensor:
    """Return c with ``-lr D = c (V^T W - W^T V)``.

    ``square`` is the squared norm of the bracket, ``bound`` its value if nothing cancelled: a norm
    that is only rounding gives no direction.
    """
    count, size = v.shape[-2:]
    if direction == "plain":
        return torch.full_like(square, lr / (2 * count))
    real = square > 1e3 * torch.finfo(v.dtype).eps * bound
    return torch.where(real, lr * size / square.clamp_min(0).sqrt(), 0)


def _turn_low_rank(
    rotations: Sequence[Tensor], v: Tensor, w: Tensor, lr: float, direction: str
) -> None:
    """Compute ``R <- R Cayley(X)``: ``X = c P^T J P``, ``P = [V; W]``, ``J = [[0, I], [-I, 0]]``.

    With the Gram matrix ``K = P P^T``: ``Cayley(X) = I + P^T (I - c/2 J K)^-1 c J P`` and
    ``|P^T J P|_F^2 = -tr(J K J K)``. The small systems of all rotations are solved at once, which
    takes a GPU no longer than solving one.
    """
    n = v.shape[1]
    p = torch.cat((v, w), 1)
    gram = p @ p.mT
    turned = torch.cat((gram[:, n:], -gram[:, :n]), 1)
    square = -(turned * turned.mT).sum((1, 2))
    bound = 2 * (gram[:, :n, :n] * gram[:, n:, n:]).sum((1, 2))
    rate = _rate(square, bound, v, lr, direction)[:, None, None]
    core = turned.mul_(-rate / 2)
    core.diagonal(dim1=1, dim2=2).add_(1)
    right = torch.linalg.solve_ex(core, torch.cat((w, -v), 1) * rate)[0]
    for r, own, x in zip(rotations, p, right, strict=True):
        r.addmm_(r @ own.T, x)


def _turn(r: Tensor, x: Tensor) -> None:
    """Compute ``R <- R Cayley(X)`` as ``2 R (I - X/2)^-1 - R``; ``x`` is overwritten."""
    x.mul_(-0.5).diagonal().add_(1)
    solved = torch.linalg.solve_ex(x, r, left=False)[0]
    r.neg_().add_(solved, alpha=2)


def _polish(r: Tensor) -> None:
    """Remove rounding from R by a Newton-Schulz iteration in float64, whatever TF32 allows."""
    wide = r.to("cpu" if r.device.type == "mps" else r.device, torch.float64)
    r.copy_(torch.addmm(wide, wide, wide.T @ wide, beta=1.5, alpha=-0.5))

"""Samplers of batches per process, reproducible and with their own random generators."""

import math
from collections.abc import Iterator, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch.utils.data import Sampler

from tokd_lightning.errors import TokdError

Rows = npt.NDArray[np.int64]
Balance = Literal["none", "repeat_real", "half_batch", "loss_weight", "paired"]


class TrainingBatches(Sampler[list[int]]):
    """Batches of one training epoch, drawn from a generator seeded by ``(seed, epoch)``.

    A global batch is drawn once and cut into consecutive parts, one per process: two processes
    with batches of b together see what one process with 2b sees. Samples that do not fill a last
    batch are left out of the epoch.

    Args:
        labels: ``(N,)``, 1 = fake.
        batch_size: Samples per batch over all processes; a multiple of ``world``.
        balance: ``none`` and ``loss_weight`` shuffle the frames unchanged; ``repeat_real`` repeats
            real frames until there are as many as fake ones; ``half_batch`` fills one half of every
            batch with real frames and the other with fake ones, alternating, each kind shuffled
            again when it is used up; ``paired`` puts every fake next to its own source frame.
        samples_per_epoch: Samples per epoch over all processes; by default every frame (with
            ``repeat_real``, after repetition) or every pair counts once.
        seed: Not negative.
        rank: Rank of this process.
        world: World size.
        parts: Consecutive parts in which each process gets its share of a batch; ``batch_size`` is
            a multiple of ``world * parts``. Batches are then counted in parts.
        forged: Whether the fake rows are the real ones again, in their order, forged: each real row
            is then followed by its forged counterpart.
        partners: Row of each fake's source frame, -1 without one, for ``paired``: fakes without one
            are not drawn.
        numbered: Whether ``epoch * N`` is added to every row, so that the dataset knows the epoch.
        sets: Set of each row, ``(N,)``, from 0 on; None for one set.
        weights: Shares of the sets in a batch, in any unit. A batch takes the share's number of
            samples (pairs, with ``half_batch`` and ``paired``) rounded down or up, at random so
            that it is exact on average. None draws from all rows alike.

    Raises:
        TokdError: An epoch does not fill one batch, a batch cannot hold whole pairs, one kind of
            frame is missing with balancing, or no fake has a source frame.
        ValueError: ``batch_size`` is not a multiple of ``world * parts``.
    """

    def __init__(
        self,
        labels: Rows,
        batch_size: int,
        balance: Balance = "none",
        samples_per_epoch: int | None = None,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        parts: int = 1,
        forged: bool = False,
        partners: Rows | None = None,
        numbered: bool = False,
        sets: Rows | None = None,
        weights: Sequence[float] | None = None,
    ) -> None:
        if batch_size % (world * parts):
            raise ValueError(
                f"a batch of {batch_size} cannot be cut into {world * parts} equal parts"
            )
        fakes = labels == 1
        if balance == "paired" and not forged:
            assert partners is not None
            fakes = fakes & (partners >= 0)
            if not fakes.any():
                raise TokdError(
                    "balance paired finds no fake with the real frame that it was made from: it "
                    "needs target and source in the list of frames, and the real videos"
                )
        self.rows = len(labels)
        self.kinds = [np.flatnonzero(labels == 0), np.flatnonzero(fakes)]
        self._check(balance, batch_size, world * parts)
        self.partners = partners
        self.numbered = numbered or forged
        self.batch_size = batch_size
        self.balance = balance
        self.seed = seed
        self.rank = rank
        self.world = world
        self.parts = parts
        self.forged = forged
        self.epoch = 0
        self.start = 0
        self.unit = 2 if balance in ("half_batch", "paired") else 1
        self.sets = None
        if sets is not None and weights is not None:
            kinds = [[kind[sets[kind] == n] for kind in self.kinds] for n in range(len(weights))]
            self.sets = [(kind, float(w)) for kind, w in zip(kinds, weights, strict=True)]
            alone = balance in ("none", "loss_weight")
            for number, (kind, weight) in enumerate(self.sets):
                if weight and not all(map(len, [np.concatenate(kind)] if alone else kind)):
                    raise TokdError(
                        f"set {number + 1} has no training frames for balance {balance}"
                    )
        real, fake = (len(kind) for kind in self.kinds)
        whole = fake + (max(real, fake) if balance == "repeat_real" else real)
        if balance == "paired" and not forged:
            whole = 2 * fake
        self.samples = whole if samples_per_epoch is None else samples_per_epoch
        if self.samples < batch_size:
            raise TokdError(
                f"an epoch of {self.samples} training frames does not fill one batch of "
                f"{batch_size}: lower --data.batch_size"
            )

    @property
    def sampler(self) -> "TrainingBatches":
        """Itself: Lightning calls ``set_epoch`` on the ``sampler`` of a batch sampler."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Set the epoch; a resumed position is dropped unless it belongs to this epoch."""
        if epoch != self.epoch:
            self.start = 0
        self.epoch = epoch

    def resume(self, epoch: int, start: int) -> None:
        """Start the next iteration at a batch of an epoch (at 0 if the epoch was finished)."""
        self.epoch = epoch
        self.start = start if start < len(self) else 0

    def __len__(self) -> int:
        """Return the number of batches of a whole epoch, the same on every process."""
        return self.samples // self.batch_size * self.parts

    def __iter__(self) -> Iterator[list[int]]:
        start, self.start = self.start, 0
        order = self._order(np.random.default_rng([self.seed, self.epoch]))
        size = self.batch_size // (self.world * self.parts)
        for part in range(start, len(self)):
            first = (part * self.world + self.rank) * size
            yield order[first : first + size].tolist()

    def _check(self, balance: Balance, batch_size: int, shares: int) -> None:
        if balance != "none" and not all(len(kind) for kind in self.kinds):
            raise TokdError(f"balance {balance} needs real and fake training frames, not one kind")
        if balance == "half_batch" and batch_size % 2:
            raise TokdError(f"balance half_batch needs an even batch size, not {batch_size}")
        if balance == "paired" and batch_size // shares % 2:
            raise TokdError(
                f"balance paired needs an even number of samples, not {batch_size // shares}, on "
                "each process and in each accumulated part: change --data.batch_size"
            )

    def _order(self, rng: np.random.Generator) -> Rows:
        """Draw the rows of the whole epoch, all processes together."""
        total = self.samples // self.batch_size * self.batch_size
        if self.forged:
            real = self.kinds[0]
            rows = _endless(real, total // 2, rng)
            order = np.stack([rows, rows + len(real)], axis=1).reshape(-1)
        elif self.sets is not None:
            order = self._mixed(total, [weight for _, weight in self.sets], rng)
        else:
            order = self._units(self.kinds, total // self.unit, rng).reshape(-1)
        return order + self.epoch * self.rows if self.numbered else order

    def _units(self, kinds: Sequence[Rows], count: int, rng: np.random.Generator) -> Rows:
        """Draw samples, ``(count, 1)``, or pairs of a real and a fake one, ``(count, 2)``."""
        real, fake = kinds
        if self.balance == "half_batch":
            return np.stack([_endless(kind, count, rng) for kind in kinds], axis=1)
        if self.balance == "paired":
            assert self.partners is not None
            drawn = _endless(fake, count, rng)
            return np.stack([self.partners[drawn], drawn], axis=1)
        pool = np.concatenate(kinds)
        if self.balance == "repeat_real":
            pool = np.concatenate([_endless(real, max(len(real), len(fake)), rng), fake])
        return _endless(pool, count, rng)[:, None]

    def _mixed(self, total: int, weights: Sequence[float], rng: np.random.Generator) -> Rows:
        """Draw the batches of an epoch from several sets, each by its share."""
        assert self.sets is not None
        batches, size = total // self.batch_size, self.batch_size // self.unit
        borders = np.cumsum(weights) / sum(weights) * size
        borders[-1] = size  # whatever rounding left
        borders = np.floor(borders + rng.random((batches, 1)))
        of = (np.arange(size)[None, :, None] >= borders[:, None, :]).sum(2)
        of = rng.permuted(of, axis=1).reshape(-1)
        order = np.empty((len(of), self.unit), np.int64)
        for number, (kinds, _) in enumerate(self.sets):
            its = of == number
            if its.any():
                order[its] = self._units(kinds, int(its.sum()), rng)
        return order.reshape(-1)


def _endless(rows: Rows, count: int, rng: np.random.Generator) -> Rows:
    """Draw ``count`` rows; every row is drawn once before any is drawn again."""
    rounds = [rng.permutation(rows) for _ in range(math.ceil(count / len(rows)))]
    return np.concatenate(rounds)[:count]


class EveryNth(Sampler[int]):
    """Rows of one process in evaluation: every ``world``-th, without duplicates.

    Args:
        length: Number of rows over all processes.
        rank: Rank of this process.
        world: World size.
    """

    def __init__(self, length: int, rank: int = 0, world: int = 1) -> None:
        self.length = length
        self.rank = rank
        self.world = world

    def __len__(self) -> int:
        return len(range(self.rank, self.length, self.world))

    def __iter__(self) -> Iterator[int]:
        return iter(range(self.rank, self.length, self.world))


class EvaluationBatches(Sampler[list[int]]):
    """Batches of :class:`EveryNth`, equally many on every process without duplicates as padding.

    If a process runs out of rows before another, its last batch is empty: processes that
    synchronise in every forward pass stay in step.

    Args:
        rows: The rows of this process.
        batch_size: Rows per batch and process.
    """

    def __init__(self, rows: EveryNth, batch_size: int) -> None:
        self.rows = rows
        self.batch_size = batch_size

    def __len__(self) -> int:
        longest = math.ceil(self.rows.length / self.rows.world)
        return math.ceil(longest / self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        rows = list(self.rows)
        for batch in range(len(self)):
            yield rows[batch * self.batch_size : (batch + 1) * self.batch_size]

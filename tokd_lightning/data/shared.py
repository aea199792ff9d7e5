"""Batches that several fits share: decoded, moved and augmented once for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, cast

from torch import Tensor
from torch.utils.data import DataLoader

if TYPE_CHECKING:
    from tokd_lightning.data.datamodule import FrameDataModule
    from tokd_lightning.data.frames import FrameLoader

# Epoch, training batches before, phase (a validation precedes the next batch) and step of a phase.
Moment = tuple[int, int, int, int]
VALIDATING, TRAINING = 0, 1
LAST = 2**62  # the epoch of what follows training


class Stream:
    """Finished batches of one configuration of data, by split, epoch and position.

    Fits that take turns ask for the same batch one after another: the first one loads and finishes
    it, the others receive the same tensors, which must not be changed in place. A fit that resumes
    at an earlier batch than the others reads on from there until they meet.
    """

    def __init__(self) -> None:
        self._first: FrameDataModule | None = None
        self._sources: dict[str, _Source] = {}
        self._latest: dict[str, tuple[Tensor, Any]] = {}

    def join(self, data: FrameDataModule) -> None:
        """Give a fit's data module the index that the first one has read."""
        if self._first is None:
            self._first = data
        else:
            data.share_index(self._first)

    def batch(self, split: str, epoch: int, position: int) -> Any:
        """Return what a dataloader yields at a position, as a shallow copy."""
        if split not in self._sources:
            self._sources[split] = _Source(cast("FrameDataModule", self._first), split)
        found = self._sources[split].batch(epoch, position)
        return dict(found) if isinstance(found, dict) else found

    def once(self, what: str, tensor: Tensor, make: Callable[[], Any]) -> Any:
        """Return the result of ``make`` for a tensor, computed where it is not the latest one."""
        known = self._latest.get(what)
        if known is None or known[0] is not tensor:
            self._latest.pop(what, None)  # before the next is made: both need not fit the memory
            self._latest[what] = known = (tensor, make())
        return known[1]

    def close(self) -> None:
        """End the dataloaders with their workers, and forget the latest batch."""
        self._sources.clear()
        self._latest.clear()


class _Source:
    """Dataloader of one split that reads on, or starts again where another batch is asked for."""

    def __init__(self, data: FrameDataModule, split: str) -> None:
        self._loader: FrameLoader = getattr(data, f"{split}_dataloader")()
        self._batches: Iterator[Any] = iter(())
        self._at: tuple[int, int] | None = None
        self._held: Any = None

    def batch(self, epoch: int, position: int) -> Any:
        if self._at != (epoch, position):
            if self._at != (epoch, position - 1):
                self._start(epoch, position)
            self._held = None
            self._held = next(self._batches)
            self._at = epoch, position
        return self._held

    def _start(self, epoch: int, position: int) -> None:
        sampler: Any = self._loader.batch_sampler
        resume = getattr(sampler, "resume", None)
        if resume is not None:
            resume(epoch, position)
        self._batches = DataLoader.__iter__(self._loader)
        for _ in range(0 if resume is not None else position):
            next(self._batches)


class Seat:
    """Place of one fit at a stream.

    Args:
        stream: The stream.
        wait: Called with the moment of the next batch; returns when it is this fit's turn.

    Attributes:
        release: Called before another fit may take its turn.
    """

    release: Callable[[], None] | None = None

    def __init__(self, stream: Stream, wait: Callable[[Moment], None]) -> None:
        self.stream = stream
        self._wait = wait
        self._at = (0, 0)

    def before_training(self, epoch: int, position: int) -> None:
        """Wait for the turn to take a training batch."""
        self._pass((epoch, position, TRAINING, 0))

    def training(self, epoch: int, position: int) -> Any:
        """Return a training batch."""
        found = self.stream.batch("train", epoch, position)
        self._at = epoch, position + 1
        return found

    def evaluation(self, split: str, length: int) -> Iterator[Any]:
        """Yield the batches of an evaluation, each when it is this fit's turn."""
        epoch, position = self._at if split == "val" else (LAST, 0)
        for step in range(length):
            self._pass((epoch, position, VALIDATING, step))
            # Every validation reads from the start, which its own number stands for.
            yield self.stream.batch(split, epoch * 2**32 + position, step)

    def _pass(self, moment: Moment) -> None:
        if self.release is not None:
            self.release()
        self._wait(moment)

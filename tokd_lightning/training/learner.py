"""One fit of a cohort: what `tokd fit` needs to take turns with others."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from tokd_lightning.data.shared import LAST, TRAINING, Moment, Seat, Stream
from tokd_lightning.errors import Terminated
from tokd_lightning.modules.distill import DistillModule
from tokd_lightning.modules.shared_teacher import SharedTeacher
from tokd_lightning.training.callbacks.resume import LastCheckpoint
from tokd_lightning.training.checks import method_of
from tokd_lightning.training.turns import Turns

if TYPE_CHECKING:
    from tokd_lightning.modules import DetectionModule
    from tokd_lightning.runs.identity import Config

# Keys of a fit whose arguments are read, and of one that may begin, before that of any batch.
_READ, _READY = (-1, 0), (-1, 1)
TOLD = "told to end: the same command continues from here"


class Learner:
    """One fit of a cohort.

    Args:
        number: Its number, from 0.
        args: Arguments of its ``tokd fit``.
        turns: The cohort's turns.
        stream: Returns the cohort's batches that contain what is given beyond images and labels.
        teacher: The cohort's teacher.
        agreed: Called when the arguments of all fits are read, and whenever its turn comes; raises
            if they cannot share, or cannot go on.

    Attributes:
        name: Name of its run; its arguments until that is known.
        config: Its resolved configuration; None until it is read.
        processes: Number of processes of each fit.
        last: Its last.ckpt; None before training.
        error: Why it has ended early; None otherwise.
    """

    def __init__(
        self,
        number: int,
        args: list[str],
        turns: Turns,
        stream: Callable[[frozenset[str]], Stream],
        teacher: SharedTeacher,
        agreed: Callable[[], None],
    ) -> None:
        self.number = number
        self.args = args
        self.name = f"fit {number + 1}"
        self.config: Config | None = None
        self.processes = 1
        self.last: LastCheckpoint | None = None
        self.error: BaseException | None = None
        self._stream = stream
        self._teacher = teacher
        self._turns = turns
        self._agreed = agreed
        self._told = False
        self._trains = False

    def read(self, config: Config, folder: Path) -> None:
        """Wait until the arguments of all fits are read.

        Args:
            config: This fit's resolved configuration.
            folder: Its run's folder.

        Raises:
            TokdError: The fits do not agree in what they share.
        """
        self.config, self.name = config, folder.name
        self._turns.wait(self.number, _READ)
        self._agreed()

    def ready(self) -> None:
        """Wait until no fit has a reason left not to begin; the first one starts all processes."""
        self._turns.wait(self.number, _READY)
        self._agreed()

    def share(self, model: DetectionModule, data: Any, trainer: Trainer) -> None:
        """Give a fit's modules the batches and the teacher of the cohort."""
        self.processes = trainer.world_size
        data.seat = Seat(self._stream(data.annotations.needs), self._wait)
        if isinstance(model, DistillModule):
            model.shared_teacher = self._teacher
        data.seat.release = model.release

    def watch(self, callbacks: Sequence[Callback]) -> None:
        """Hand signals on to last.ckpt's callback, and have it time this fit's turns alone."""
        for callback in callbacks:
            if isinstance(callback, LastCheckpoint):
                self.last = callback
                callback.use_clock(self._clock)

    def _clock(self) -> float:
        """Return the seconds of this fit's own turns."""
        return self._turns.seconds(self.number)

    def tell(self) -> None:
        """Ask the fit to save and end."""
        self._told = True
        if self.last is not None:
            self.last.tell()

    def _wait(self, moment: Moment) -> None:
        self._turns.wait(self.number, moment)
        self._agreed()
        begins = not self._trains and self.processes == 1  # several end alike, after a batch
        if self._told and (moment[0] == LAST or begins):
            raise Terminated(TOLD)  # between batches last.ckpt is saved before
        self._trains |= moment[2] == TRAINING


def shared_part(config: Config) -> dict[str, Any]:
    """Return the options that all fits of a cohort share: data, trainer, seed, batch handling.

    Args:
        config: A resolved configuration.
    """
    model = config["model"].get("init_args") or {}
    return {
        **{key: config.get(key) for key in ("seed_everything", "data", "trainer")},
        "model": {key: model.get(key) for key in ("accumulate", "compile")},
    }


def disagreement(first: Config, other: Config) -> str:
    """Return the first option in which two fits cannot share batches or a teacher; else ''."""
    ours, theirs = (dict(_flat(shared_part(config), "")) for config in (first, other))
    teachers = [_teacher_of(config) for config in (first, other)]
    if all(teachers):
        ours["model.teacher"], theirs["model.teacher"] = teachers
    for key in sorted(ours.keys() | theirs.keys()):
        if ours.get(key) != theirs.get(key):
            return f"--{key} is {theirs.get(key)}, not {ours.get(key)}"
    return ""


def _teacher_of(config: Config) -> Path | None:
    model = config["model"].get("init_args") or {}
    path = model.get("teacher")
    ignored = getattr(method_of(model), "needs_teacher", True) is False
    return None if path is None or ignored else Path(path).resolve()


def _flat(value: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for name, inner in value.items():
            where = key if name == "init_args" else f"{key}.{name}" if key else str(name)
            yield from _flat(inner, where)
    else:
        yield key, value

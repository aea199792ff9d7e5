"""Cohort: several whole fits that take turns on one stream of batches and one teacher."""

import ctypes
import gc
import os
import re
import signal
import sys
import threading
import traceback
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from types import FrameType
from typing import Any, cast

import torch
from lightning.pytorch.utilities.seed import isolate_rng

from tokd_lightning.data.shared import Stream
from tokd_lightning.errors import AlikeError, Terminated, TokdError, the_told_one
from tokd_lightning.loggers.run import is_rank_zero
from tokd_lightning.modules.shared_teacher import SharedTeacher
from tokd_lightning.training.cli import run
from tokd_lightning.training.console import quieten
from tokd_lightning.training.labelled import labelled
from tokd_lightning.training.launch import said_once
from tokd_lightning.training.learner import TOLD, Learner, disagreement
from tokd_lightning.training.turns import Turns

ALSO, TEST, LOGS = "--also", "--test", "--logs"
_AGAIN = {"--rerun", "--reuse"}
_SIGNALS = (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT)
_INTERRUPTED = 130  # 128 + SIGINT, the shell convention
_ARENA_MAX = -8  # M_ARENA_MAX of glibc's mallopt
_MEMORY = re.compile(r"out of memory|can't allocate memory", re.IGNORECASE)


class Cohort:
    """Several whole fits in one process, of which one runs at a time.

    Each fit is what ``tokd fit`` is alone: its own Trainer, folder, loggers and checkpoints. It
    runs in a thread and passes the turn on before every batch, so that all train on a batch before
    one takes the next. The batch is loaded and the teacher evaluated once for all. The random
    numbers of Python, NumPy and torch belong to a fit, not to the process.

    Args:
        arguments: Arguments of ``tokd fit`` of each fit.
        test: Whether the runs are tested when all are trained.
        logs: Folder of a log of each run, in addition to the common output; None for none.
    """

    def __init__(
        self, arguments: Sequence[list[str]], test: bool = False, logs: Path | None = None
    ) -> None:
        self._test = test
        self._logs = logs
        self._turns = Turns(len(arguments), _own_random_numbers)
        # By what batches contain: frames without a mask are left out for those that need it alone.
        self._streams: defaultdict[frozenset[str], Stream] = defaultdict(Stream)
        teacher, stream = SharedTeacher(several=len(arguments) > 1), self._streams.__getitem__
        self.learners = [
            Learner(number, args, self._turns, stream, teacher, self._agree)
            for number, args in enumerate(arguments)
        ]
        self.out_of_memory = False
        self._obstacle: str | None = None

    def run(self) -> None:
        """Run all fits to their ends. One that fails leaves; the others go on.

        Raises:
            TokdError: The arguments of one are wrong, the fits cannot share, or one of
                several processes has failed.
        """
        of = {threading.Thread(target=self._learn, args=(it,), daemon=True): it
              for it in self.learners}  # fmt: skip
        with labelled(lambda thread: of[thread].name if thread in of else "", self._logs):
            for thread in of:
                thread.start()
            self._turns.begin()
            for thread in of:
                thread.join()
        for stream in self._streams.values():
            stream.close()
        if self._obstacle:
            raise TokdError(self._obstacle) if is_rank_zero() else SystemExit(2)  # said already

    def tell(self) -> None:
        """Ask all fits to save and end."""
        for learner in self.learners:
            learner.tell()

    def _learn(self, learner: Learner) -> None:
        self._turns.join(learner.number)
        try:
            with the_told_one():
                run(["fit", *learner.args], learner)
                if self._test:
                    run(["test", *_of_test(learner.args)], learner)
        except BaseException as error:  # SystemExit and KeyboardInterrupt end one fit, too
            learner.error = error
            alone = len(self.learners) == 1 or learner.processes > 1
            if _is_out_of_memory(error) and not alone:
                self.out_of_memory = True
                self.tell()
            elif learner.config is not None and not self._obstacle:
                _report(error)
            traceback.clear_frames(error.__traceback__)  # they hold its network and batches
        finally:
            self._turns.leave(learner.number)

    def _agree(self) -> None:
        """Refuse the cohort, in each fit, if one cannot be read or does not fit the first.

        Fits of several processes end together after an error of one process: the others would wait
        for it, or for the fit that comes next there.
        """
        if self._obstacle is None:
            self._obstacle = self._find_obstacle()
        if not self._obstacle and any(it.processes > 1 for it in self.learners):
            alike = AlikeError, Terminated
            failed = [it for it in self.learners if it.error and not isinstance(it.error, alike)]
            self._obstacle = "".join(f"{it.name}: {it.error}" for it in failed[:1])
        if self._obstacle:
            raise TokdError(self._obstacle)

    def _find_obstacle(self) -> str:
        first = self.learners[0]
        for learner in self.learners:
            if learner.config is None or first.config is None:
                wrong = learner if learner.config is None else first
                return f"{wrong.name}: {wrong.error}"
            if what := disagreement(first.config, learner.config):
                return (
                    f"{learner.name} cannot share batches and teacher with {first.name}: {what}; "
                    "make them agree, or fit it by itself"
                )
        return ""


def fit(args: list[str]) -> None:
    """Run ``tokd fit``, of one fit or of several separated by ``--also``.

    Args:
        args: As on the command line, without ``fit``.

    Raises:
        TokdError: A fit has failed; the others have been run to their ends.
        Terminated: SIGTERM or SIGUSR1 has ended them, and the work so far is saved.
    """
    arguments, test, logs = split(args)
    if len(arguments) == 1:
        run(["fit", *arguments[0]])
        if test:
            gc.collect()  # what the fit leaves
            run(["test", *_of_test(arguments[0])])
        return
    quieten()
    with suppress(OSError, AttributeError):  # glibc: no arena of malloc for each thread
        ctypes.CDLL(None).mallopt(_ARENA_MAX, 1)
    waiting, failed = [list(map(reusing, arguments))], list[str]()
    with said_once(), _Signals() as signals:
        while waiting:
            group = waiting.pop(0)
            cohort = signals.cohort = Cohort(group, test, logs)
            cohort.run()
            signals.obey()
            if cohort.out_of_memory:
                waiting = [*_halves(cohort), *waiting]
            else:
                failed += [f"{it.name}: {it.error}" for it in cohort.learners if it.error]
            del cohort
            gc.collect()
            torch.cuda.empty_cache()
    if failed and is_rank_zero():
        raise TokdError(f"{len(failed)} of {len(arguments)} fits failed: {'; '.join(failed)}")


def split(args: list[str]) -> tuple[list[list[str]], bool, Path | None]:
    """Return the arguments of each fit, whether the runs are tested, and the folder of their logs.

    ``--also`` begins another fit. It takes the options of the first, except those of network and
    method (``--model.…`` without the teacher) and the name, and then its own. An experiment or run
    of its own replaces the first's, with its teacher. ``--test`` tests each run as well;
    ``--logs DIR`` keeps what each fit says in a file of its own.

    Args:
        args: Arguments of ``tokd fit``, with or without ``--also``.
    """
    parts: list[list[str]] = [[]]
    logs: Path | None = None
    left = list(args)
    while left:
        name, equals, value = left.pop(0).partition("=")
        if name == ALSO:
            parts.append([value] if equals else [])
        elif name == LOGS and (equals or left):
            logs = Path(value if equals else left.pop(0))
        elif name != TEST:
            parts[-1].append(name + equals + value)
    first = parts[0]
    return [first, *(_joined(first, own) for own in parts[1:])], TEST in args, logs


def reusing(args: list[str]) -> list[str]:
    """Return the arguments of a fit of several, which reuses its run where that is finished.

    The same command can then go on after some of them are.
    """
    return args if _AGAIN & set(args) else [*args, "--reuse"]


def _joined(first: list[str], own: list[str]) -> list[str]:
    if own[:1] and not own[0].startswith("-") and own[0].endswith((".yaml", ".yml")):
        own = ["--config", *own]
    names = {arg.partition("=")[0] for arg in own}
    placed = bool(names & {"--config", "-c"}) or (own[:1] != [] and not own[0].startswith("-"))
    kept: list[str] = []
    for option in _options(first):
        key = option[0].partition("=")[0]
        of_model = key.startswith("--model.") and (placed or not key.endswith(".teacher"))
        of_place = not key.startswith("--") or key == "--config"
        if of_model or key == "--name" or (of_place and placed):
            continue
        if not (key in _AGAIN and names & _AGAIN):
            kept += option
    return [*own, *kept] if own[:1] and not own[0].startswith("-") else [*kept, *own]


def _options(args: Sequence[str]) -> Iterator[list[str]]:
    """Yield each option with its value, and a run's folder by itself."""
    left = list(args)
    while left:
        option = [left.pop(0)]
        takes = option[0].startswith("-") and "=" not in option[0] and option[0] not in _AGAIN
        if takes and left and not left[0].startswith("--"):
            option.append(left.pop(0))
        yield option


def _of_test(args: Sequence[str]) -> list[str]:
    """Return the arguments of a run's test from those of its fit."""
    return [arg for arg in args if arg != "--rerun"]


def _halves(cohort: Cohort) -> list[list[list[str]]]:
    """Return the fits that are left in two groups, which resume what they have started."""
    left = [it for it in cohort.learners if it.error is not None]
    half = (len(left) + 1) // 2
    again = [reusing(_of_test(it.args)) for it in left]
    groups = [part for part in (again[:half], again[half:]) if part]
    print(
        f"out of memory with {len(cohort.learners)} fits at a time: going on with "
        f"{half} from their last checkpoints",
        file=sys.stderr,
        flush=True,
    )
    return groups


def _is_out_of_memory(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        if isinstance(error, RuntimeError) and _MEMORY.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _report(error: BaseException) -> None:
    """Print why a fit has left, in the form in which it would alone."""
    if isinstance(error, TokdError | Terminated):
        print(f"tokd: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    elif not isinstance(error, KeyboardInterrupt | SystemExit):
        traceback.print_exception(error)


def _own_random_numbers() -> Callable[[], None]:
    """Return a function that restores the state of the process's random numbers."""
    kept = ExitStack()
    kept.enter_context(isolate_rng(include_cuda=cast(Any, torch.cuda).is_initialized()))
    return kept.close


class _Signals:
    """Hands signals, which reach the main thread alone, on to the fits of a cohort."""

    cohort: Cohort | None = None

    def __init__(self) -> None:
        self._told: list[int] = []
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "_Signals":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in self._told:
            os._exit(_INTERRUPTED)  # a second Ctrl-C does not wait
        self._told.append(number)
        if self.cohort is not None:
            self.cohort.tell()

    def obey(self) -> None:
        """End after a signal."""
        if signal.SIGINT in self._told:
            raise KeyboardInterrupt
        if self._told:
            raise Terminated(TOLD)

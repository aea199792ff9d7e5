"""The exceptions that end the program with one line in place of a traceback."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

TERMINATED = 143  # 128 + SIGTERM, as shells have it


class TokdError(Exception):
    """A failure with a cause outside the code: its message is one line that says what to do.

    ``tokd`` prints the message and exits with code 2, without a traceback.
    """


class AlikeError(TokdError):
    """A TokdError that all processes of a run raise at the same place: the first one says it."""


class Terminated(Exception):
    """The program was told to end (SIGTERM) and has saved what it did; ``tokd`` exits with 143."""


def told_in(error: BaseException) -> TokdError | None:
    """Return the first TokdError among an exception and what it was raised from or during."""
    seen: set[int] = set()
    at: BaseException | None = error
    while at is not None and id(at) not in seen:
        if isinstance(at, TokdError):
            return at
        seen.add(id(at))
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return None


@contextmanager
def the_told_one() -> Iterator[None]:
    """Raise the TokdError in place of what a library has made of it."""
    try:
        yield
    except (TokdError, Terminated):
        raise
    except Exception as error:
        if told := told_in(error):
            raise told from None
        raise


@contextmanager
def renamed(words: Mapping[str, str]) -> Iterator[None]:
    """Let errors that name an option of ``tokd fit`` name the one of this command.

    Args:
        words: Regular expression of theirs -> ours.
    """
    try:
        yield
    except TokdError as error:
        raise TokdError(reworded(str(error), words)) from error


def reworded(message: str, words: Mapping[str, str]) -> str:
    """Return a message in which options have the names of another command.

    Args:
        message: One line.
        words: Regular expression of theirs -> ours.
    """
    for theirs, ours in words.items():
        message = re.sub(theirs, ours, message)
    return message

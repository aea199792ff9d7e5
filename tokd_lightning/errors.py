"""Exceptions that end the program with one line in place of a traceback."""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

TERMINATED = 143  # 128 + SIGTERM, the shell convention


class TokdError(Exception):
    """A failure with a cause outside the code: its message is one line that says what to do.

    ``tokd`` prints the message and exits with code 2, without a traceback.
    """


class AlikeError(TokdError):
    """A TokdError that all ranks raise at the same place; only rank zero reports it."""


class Terminated(Exception):
    """Raised after SIGTERM, once the work so far is saved; ``tokd`` exits with code 143."""


def reason(error: BaseException) -> str:
    """Return the cause of an error, of the operating system's without number and file name."""
    return str(getattr(error, "strerror", None) or error)


def one_line(error: BaseException) -> str:
    """Return the line that reports an error: the cause and, of the operating system's, the file."""
    place = getattr(error, "filename", None)
    return f"{reason(error)}: {place}" if place else reason(error)


def told_in(error: BaseException) -> TokdError | None:
    """Return the first TokdError in an exception's chain of causes and contexts, or None."""
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
    """Raise the original TokdError in place of the exception a library wrapped it in."""
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
    """Rename options of ``tokd fit`` to those of this command in the errors raised inside.

    Args:
        words: Regular expression of the fit's name -> this command's name.
    """
    try:
        yield
    except TokdError as error:
        raise TokdError(reworded(str(error), words)) from error


def reworded(message: str, words: Mapping[str, str]) -> str:
    """Return a message with options renamed to those of another command.

    Args:
        message: One line.
        words: Regular expression of the original name -> new name.
    """
    for theirs, ours in words.items():
        message = re.sub(theirs, ours, message)
    return message

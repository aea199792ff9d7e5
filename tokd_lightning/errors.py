"""The exceptions that end the program with one line in place of a traceback."""

TERMINATED = 143  # 128 + SIGTERM, as shells have it


class TokdError(Exception):
    """A failure with a cause outside the code: its message is one line that says what to do.

    ``tokd`` prints the message and exits with code 2, without a traceback.
    """


class AlikeError(TokdError):
    """A TokdError that all processes of a run raise at the same place: the first one says it."""


class Terminated(Exception):
    """The program was told to end (SIGTERM) and has saved what it did; ``tokd`` exits with 143."""

"""The one exception that a user can mend."""


class TokdError(Exception):
    """A failure with a cause outside the code: its message is one line that says what to do.

    ``tokd`` prints the message and exits with code 2, without a traceback.
    """

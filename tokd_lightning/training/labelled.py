"""Standard output and error of several fits: every line begins with the name of its fit."""

import logging
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class _Lines:
    """Text stream that writes whole lines, each with the label of the thread that wrote it."""

    def __init__(
        self, stream: Any, label: Callable[[threading.Thread], str], logs: Path | None
    ) -> None:
        self._stream = stream
        self._label = label
        self._logs = logs
        self._begun: dict[threading.Thread, str] = {}

    def write(self, text: str) -> int:
        thread = threading.current_thread()
        label = self._label(thread)
        if not label:
            return int(self._stream.write(text))
        *lines, rest = (self._begun.pop(thread, "") + text).split("\n")
        for line in lines:
            self._stream.write(f"{label}: {line}\n" if line.strip() else "\n")
        if lines and self._logs is not None:
            with (self._logs / f"{label}.log").open("a") as log:
                log.write("".join(f"{line}\n" for line in lines))
        if rest:
            self._begun[thread] = rest
        return len(text)

    def finish(self) -> None:
        """Write unfinished lines."""
        for thread, rest in self._begun.items():
            self._stream.write(f"{self._label(thread)}: {rest}\n")

    def isatty(self) -> bool:
        return False  # no colours and no progress bars among the lines of others

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def labelled(label: Callable[[threading.Thread], str], logs: Path | None = None) -> Iterator[None]:
    """Label the lines that are printed, logged or warned inside.

    Args:
        label: Returns the label of a thread; empty for none.
        logs: Folder of ``<label>.log`` files, which the lines of each are appended to; made if
            it does not exist.
    """
    if logs is not None:
        logs.mkdir(parents=True, exist_ok=True)
    before = sys.stdout, sys.stderr
    out, err = _Lines(sys.stdout, label, logs), _Lines(sys.stderr, label, logs)
    handlers = [
        handler
        for name in ("lightning.pytorch", "lightning.fabric", "")
        for handler in logging.getLogger(name).handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is before[1]
    ]
    try:
        sys.stdout, sys.stderr = out, err
        for handler in handlers:
            handler.setStream(err)
        yield
    finally:
        out.finish()
        err.finish()
        sys.stdout, sys.stderr = before
        for handler in handlers:
            handler.setStream(before[1])

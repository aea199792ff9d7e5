"""Turns of several threads, of which exactly one runs at a time."""

import threading
import time
from collections.abc import Callable
from typing import Any

Key = tuple[int, ...]


class Turns:
    """Gives the turn to the thread with the smallest key, among equal keys to the first thread.

    A thread states the key of what it does next and waits. One that is behind the others catches up
    by itself, as its keys are smaller; one that has ended drops out.

    Args:
        number: Number of threads.
        keep: Called in a thread before it passes the turn on; returns a function that is called in
            it when the turn comes back.
    """

    def __init__(self, number: int, keep: Callable[[], Callable[[], Any]]) -> None:
        self._keys: list[Key | None] = [()] * number
        self._turn = [threading.Semaphore(0) for _ in range(number)]
        self._keep = keep
        self._spent = [0.0] * number
        self._since = time.monotonic()

    def begin(self) -> None:
        """Give the first turn."""
        self._since = time.monotonic()
        self._turn[0].release()

    def join(self, me: int) -> None:
        """Wait for the first turn."""
        self._turn[me].acquire()

    def wait(self, me: int, key: Key) -> None:
        """Pass the turn on, and wait until it comes back.

        Args:
            me: Number of the thread.
            key: Of what it does next.
        """
        self._keys[me] = key
        if (smallest := self._next()) != me:
            back = self._keep()
            self._pass(me, smallest)
            self._turn[me].acquire()
            back()

    def leave(self, me: int) -> None:
        """Drop out and pass the turn on."""
        self._keys[me] = None
        if any(key is not None for key in self._keys):
            self._pass(me, self._next())

    def seconds(self, me: int) -> float:
        """Return the seconds of a thread's own turns; only the running thread may ask."""
        return self._spent[me] + time.monotonic() - self._since

    def _next(self) -> int:
        keys = {number: key for number, key in enumerate(self._keys) if key is not None}
        return min(keys, key=lambda number: (keys[number], number))

    def _pass(self, me: int, to: int) -> None:
        now = time.monotonic()
        self._spent[me] += now - self._since
        self._since = now
        self._turn[to].release()

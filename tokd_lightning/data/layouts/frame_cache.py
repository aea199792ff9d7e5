"""Cache of the frames chosen per video, which saves listing half a million names in each run."""

import os
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from typing import Any

from tokd_lightning.data.cache import cache_file, read_cache, write_cache

Choice = list[tuple[int, str]]
_FORM = 2  # increase when the same folder would give a different choice
_COARSEST = 2_000_000_000  # ns, the time resolution of the coarsest file system (FAT)


class FrameCache:
    """Cache of frame choices, valid while the folders that they were made from are unchanged.

    A folder is unchanged while its mtime, ctime, inode and size are. One that changed so shortly
    before it was listed that a second change could have the same time is not cached yet (git calls
    such an entry racy). Every parent folder of videos has its own cache file.

    Args:
        count: Frames to choose per video.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._known: dict[Path, dict[str, Any]] = {}
        self._found: dict[Path, dict[str, Any]] = {}

    def choose(
        self, place: Path, choose: Callable[[Path, int], tuple[Choice, int]]
    ) -> tuple[Choice, int]:
        """Return the cached frames of a video, or choose them now.

        Args:
            place: A folder of frames or a pack.
            choose: Chooses frames, given the place and the count.

        Returns:
            The frames, and how many there are to choose from.

        Raises:
            OSError: The place does not exist or cannot be read.
        """
        parent = place.parent
        if parent not in self._known:
            self._known[parent] = read_cache(self._file(parent))
            self._found[parent] = {}
        now = time_ns()
        stat = os.stat(place)  # noqa: PTH116 - called for every video, and Path.stat is slower
        stamp = [stat.st_mtime_ns, stat.st_ctime_ns, stat.st_ino, stat.st_size]
        old = self._known[parent].get(place.name)
        if old is not None and old[0] == stamp:
            return list(zip(old[1], old[2], strict=True)), old[3]
        choice, there = choose(place, self._count)
        if max(stamp[:2]) < now - _COARSEST:
            numbers, names = [n for n, _ in choice], [name for _, name in choice]
            self._found[parent][place.name] = [stamp, numbers, names, there]
        return choice, there

    def save(self) -> None:
        """Write the new choices to disk."""
        for parent, found in self._found.items():
            if found:
                write_cache(self._file(parent), self._known[parent] | found)

    def _file(self, parent: Path) -> Path:
        return cache_file(f"frames{_FORM}-{self._count}", parent.absolute())

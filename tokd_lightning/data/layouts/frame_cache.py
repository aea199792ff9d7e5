"""The frames chosen of each video, kept between runs: half a million names need not be listed."""

import os
from collections.abc import Callable
from pathlib import Path
from time import time_ns
from typing import Any

from tokd_lightning.data.cache import cache_file, read_cache, write_cache

Choice = list[tuple[int, str]]
_FORM = 2  # raise it when the same folder would give another choice
_COARSEST = 2_000_000_000  # ns between two times of the coarsest file system (FAT)


class FrameCache:
    """Remembers choices of frames while the folders that they were made of stay as they are.

    A folder is the same while its times of change and its inode are. One that changed so shortly
    before it was listed that a second change could bear the same time is not remembered yet (git
    calls such an entry racy). Every parent folder of videos has a file of its own.

    Args:
        count: Frames wanted per video.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._known: dict[Path, dict[str, Any]] = {}
        self._found: dict[Path, dict[str, Any]] = {}

    def choose(
        self, place: Path, choose: Callable[[Path, int], tuple[Choice, int]]
    ) -> tuple[Choice, int]:
        """Recall the frames of a video, or choose them now.

        Args:
            place: A folder of frames or a pack.
            choose: What chooses, given the place and the count.

        Returns:
            The frames, and how many there are to choose from.

        Raises:
            OSError: There is no such place, or it cannot be read.
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
        """Keep what was chosen anew."""
        for parent, found in self._found.items():
            if found:
                write_cache(self._file(parent), self._known[parent] | found)

    def _file(self, parent: Path) -> Path:
        return cache_file(f"frames{_FORM}-{self._count}", parent.absolute())

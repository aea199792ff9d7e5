"""Index of a tree from a single walk, which reports problematic links and names."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import NamedTuple

from tokd_lightning.data.layouts.celebdf_tree import TEST_LIST
from tokd_lightning.data.layouts.dfdc import LISTS
from tokd_lightning.data.layouts.video_folder import NOT_VIDEOS, SUFFIXES, VIDEO_SUFFIXES
from tokd_lightning.data.packed import PACK_SUFFIX
from tokd_lightning.data.synthetic import NOTICE
from tokd_lightning.verify.findings import Report

MEDIA = SUFFIXES | VIDEO_SUFFIXES | {PACK_SUFFIX}
# What data sets, their readers and this project leave next to the media.
_KNOWN = {TEST_LIST.lower(), NOTICE.lower(), *LISTS}
_KNOWN_SUFFIXES = {".json", ".csv", ".md", ".txt", ".pdf"}
_KNOWN_FOLDERS = {"splits"}


def suffix(name: str) -> str:
    """Return a file name's suffix in lower case."""
    return os.path.splitext(name)[1].lower()  # noqa: PTH122 - called for every name of a tree


class Folder(NamedTuple):
    """Names in a folder, except hidden ones."""

    files: list[str]
    folders: list[str]


class Tree:
    """All visible folders below a root, each listed once.

    Links are followed unless they are broken or lead back to a folder that contains them. Problems
    of links, names and permissions go to the report.

    Args:
        root: The tree's root.
        report: Takes the findings.
    """

    def __init__(self, root: Path, report: Report) -> None:
        self.root = root
        self._report = report
        self._folders: dict[str, Folder] = {}
        self._visit("", frozenset({os.path.realpath(root)}))

    def _visit(self, place: str, above: frozenset[str]) -> None:
        """List a folder recursively; ``above`` are the real paths of the folders around it."""
        here = Folder([], [])
        self._folders[place] = here
        try:
            with os.scandir(self.root / place) as found:
                entries = sorted(found, key=lambda entry: entry.name)
        except OSError as error:
            self._report.add("unreadable-folder", place or ".", error.strerror or "")
            return
        for entry in entries:
            path = f"{place}/{entry.name}" if place else entry.name
            if entry.is_symlink() and not self._leads_on(path, above):
                continue
            if entry.name.startswith("."):
                if entry.is_dir() or suffix(entry.name) in MEDIA:
                    self._report.add("hidden-file", path)
            elif entry.is_dir():
                here.folders.append(entry.name)
                self._visit(path, above | {os.path.realpath(self.root / path)})
            else:
                here.files.append(entry.name)
                if "\\" in entry.name:
                    self._report.add("windows-name", path)

    def _leads_on(self, path: str, above: frozenset[str]) -> bool:
        try:
            (self.root / path).stat()
        except OSError as error:
            code = "link-loop" if error.errno == errno.ELOOP else "broken-link"
            self._report.add(code, path)
            return False
        if os.path.realpath(self.root / path) in above:
            self._report.add("link-loop", path)
            return False
        return True

    def __contains__(self, place: str) -> bool:
        return place in self._folders

    def files(self, place: str) -> list[str]:
        """Return the names of the files in a folder; empty if the folder does not exist."""
        return self._folders[place].files if place in self._folders else []

    def folders(self, place: str) -> list[str]:
        """Return the names of the folders in a folder; empty if the folder does not exist."""
        return self._folders[place].folders if place in self._folders else []

    def report_strays(self, used: set[str]) -> None:
        """Report unused files and folders.

        Args:
            used: Places of videos: files, and folders including the images directly in them.
        """
        alive = {parent for place in used for parent in _parents(place)} | used
        self._report_strays("", used, alive)

    def _report_strays(self, place: str, used: set[str], alive: set[str]) -> None:
        here = self._folders[place]
        for name in here.files:
            path = f"{place}/{name}" if place else name
            known = name.lower() in _KNOWN or (not place and suffix(name) in _KNOWN_SUFFIXES)
            if path in used or known or "\\" in name:
                continue
            if place not in used or suffix(name) not in SUFFIXES:
                self._report.add("stray-file", path)
        for name in here.folders:
            path = f"{place}/{name}" if place else name
            if path in alive:
                self._report_strays(path, used, alive)
            elif path not in _KNOWN_FOLDERS and name not in NOT_VIDEOS:
                self._report.add("stray-file", path)


def _parents(place: str) -> list[str]:
    parts = place.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts))]

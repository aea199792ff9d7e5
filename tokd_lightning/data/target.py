"""Data sets named in a word on the command line: ``celebdf:data/celebdf``."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.errors import TokdError

GRAMMAR = "[NAME=]KIND[-QUALITY]:PATH"
# Kind -> the quality that is meant where none is said, as experiments/ has it.
KINDS = {"ffpp": "c40", "celebdf": "original", "own": "unknown"}
SYNTHETIC = "synthetic"
_NAME = re.compile(r"\w[\w.-]*")
_LISTS = (".csv", ".json")


class Target(NamedTuple):
    """A data set at one quality, to be evaluated on.

    Attributes:
        name: What it is called in tables and folders.
        kind: One of :data:`KINDS`: how it is laid out, and hence which data module reads it.
        quality: Compression of its videos.
        path: Its root, or of kind ``own`` a ``.csv`` or ``.json`` that lists it.
    """

    name: str
    kind: str
    quality: str
    path: Path

    @property
    def label(self) -> str:
        """Name and quality, as the names of runs begin: ``ffpp-c40``."""
        return f"{self.name}-{self.quality}"

    @property
    def listed(self) -> bool:
        """Whether a file lists the frames."""
        return self.path.suffix.lower() in _LISTS and self.path.is_file()

    def root(self, given: Path | None = None) -> Path:
        """What the paths of the frames are relative to; ``given`` says so of a list's."""
        if not self.listed:
            return self.path
        return self.path.absolute().parent if given is None else given

    def module(self, split: str, root: Path | None = None, **frames: Any) -> FrameDataModule:
        """Build the data module that reads it.

        Args:
            split: The one that will be read.
            root: What the paths in a list are relative to; by default its folder.
            **frames: What every :class:`~tokd_lightning.data.datamodule.FrameDataModule` takes.
        """
        place = self.root(root)
        given = {"name": self.name, "quality": self.quality, **frames}
        if self.kind == "ffpp":
            return FFPPDataModule(place, **given)
        if self.kind == "celebdf":
            return CelebDFDataModule(place, **given)
        given["apart"] = ()  # the run has seen nobody of it: its splits may share their people
        if self.listed and self.path.suffix.lower() == ".json" and split == "test":
            # DeepfakeBench lists Celeb-DF's test for validation too: here it is the test alone.
            given["val_fraction"] = 0.1
        return ManifestDataModule(place, self.path if self.listed else None, **given)


def parse_target(text: str) -> Target:
    """Read ``[NAME=]KIND[-QUALITY]:PATH``.

    Args:
        text: Such as ``celebdf:data/celebdf``, ``ffpp-c23:data/ffpp`` or ``wild=own:wild.csv``.
            The name is the kind's by default, and ``synthetic`` where ``tokd demo`` drew the data.

    Raises:
        TokdError: It is of another form, or there is no such path.
    """
    head, colon, place = text.partition(":")
    name, equals, what = head.rpartition("=")
    kind, dash, quality = what.partition("-")
    if kind not in KINDS:
        raise TokdError(
            f"--on {text}: no data set of the kind {kind!r}; it is {GRAMMAR} with KIND one of "
            f"{', '.join(KINDS)}"
        )
    if not colon or not place or (dash and not quality) or (equals and not _NAME.fullmatch(name)):
        raise TokdError(f"--on {text}: it is {GRAMMAR}, such as celebdf:data/celebdf")
    path = Path(place)
    if not path.exists():
        raise TokdError(f"--on {text}: there is no {path}")
    target = Target(name, kind, quality or KINDS[kind], path)
    if path.is_file() and not (kind == "own" and target.listed):
        what = "a folder, a .csv or a .json" if kind == "own" else "a folder"
        raise TokdError(f"--on {text}: {path} is not {what}")
    if name:
        return target
    return target._replace(name=SYNTHETIC if (path / "SYNTHETIC.txt").is_file() else kind)

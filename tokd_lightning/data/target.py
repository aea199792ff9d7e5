"""Data sets given as one argument on the command line: ``celebdf:data/celebdf``."""

import re
from pathlib import Path
from typing import Any, NamedTuple

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.synthetic import SYNTHETIC, is_synthetic
from tokd_lightning.errors import TokdError

GRAMMAR = "[NAME=]KIND[-QUALITY]:PATH"
# Kind -> default quality, as in experiments/.
KINDS = {"ffpp": "c40", "celebdf": "original", "own": "unknown"}
# Names of data sets that are read as `own`, which finds their layout.
NAMED = ("dfdc", "dfdcp", "df40", "ffiw", "wilddeepfake")
_NAME = re.compile(r"\w[\w.-]*")
_LISTS = (".csv", ".json")


class Target(NamedTuple):
    """Data set at one quality, to be evaluated on.

    Attributes:
        name: Its name in tables and folders.
        kind: One of :data:`KINDS`: its layout, and hence the data module that reads it.
        quality: Compression of its videos.
        path: Its root or, for kind ``own``, a ``.csv`` or ``.json`` that lists it.
    """

    name: str
    kind: str
    quality: str
    path: Path

    @property
    def label(self) -> str:
        """Name and quality, as at the start of run names: ``ffpp-c40``."""
        return f"{self.name}-{self.quality}"

    @property
    def listed(self) -> bool:
        """Return whether a file lists the frames."""
        return self.path.suffix.lower() in _LISTS and self.path.is_file()

    def root(self, given: Path | None = None) -> Path:
        """Return the folder that the frames' paths are relative to; ``given`` applies to lists."""
        if not self.listed:
            return self.path
        return self.path.absolute().parent if given is None else given

    def module(self, split: str, root: Path | None = None, **frames: Any) -> FrameDataModule:
        """Build the data module that reads it.

        Args:
            split: The split that will be read.
            root: Folder that the paths in a list are relative to; by default the list's folder.
            **frames: Arguments of :class:`~tokd_lightning.data.datamodule.FrameDataModule`.
        """
        place = self.root(root)
        given = {"name": self.name, "quality": self.quality, **frames}
        if self.kind == "ffpp":
            return FFPPDataModule(place, **given)
        if self.kind == "celebdf":
            return CelebDFDataModule(place, **given)
        given["apart"] = ()  # the run was trained on other data: its splits may share people
        if self.listed and self.path.suffix.lower() == ".json" and split == "test":
            # DeepfakeBench lists Celeb-DF's test videos for validation too: keep them in test.
            given["val_fraction"] = 0.1
        return ManifestDataModule(place, self.path if self.listed else None, **given)


def parse_target(text: str) -> Target:
    """Read ``[NAME=]KIND[-QUALITY]:PATH``.

    Args:
        text: Such as ``celebdf:data/celebdf``, ``ffpp-c23:data/ffpp`` or ``wild=own:wild.csv``.
            Names such as ``dfdc`` or ``ffiw`` stand for ``dfdc=own``. The name is the kind by
            default, or ``synthetic`` if ``tokd demo`` made the data.

    Raises:
        TokdError: It is malformed, or the path does not exist.
    """
    head, colon, place = text.partition(":")
    name, equals, what = head.rpartition("=")
    kind, dash, quality = what.partition("-")
    if kind in NAMED:
        name, kind = name or kind, "own"
    if kind not in KINDS:
        raise TokdError(
            f"--on {text}: no data set of the kind {kind!r}; it is {GRAMMAR} with KIND one of "
            f"{', '.join((*KINDS, *NAMED))}"
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
    return target._replace(name=SYNTHETIC if is_synthetic(path) else kind)

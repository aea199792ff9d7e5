"""Options for frames and crops."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from tokd_lightning.data.spacing import evenly_spaced
from tokd_lightning.errors import TokdError

Encoding = Literal["jpeg", "png"]
_WORST_CRF = 51
_JPEG_QUALITY = 95
_SMALLEST, _LARGEST = 16, 4096


@dataclass(frozen=True)
class Options:
    """Options for cropping and storing faces.

    Args:
        frames: Evenly spaced frames per video, at least 1.
        size: Side of the stored square in pixels, 16 to 4096.
        margin: Side of the crop in units of the face box's side, above 0 and at most 10.
        encoding: ``jpeg`` or ``png``.
        jpeg_quality: 1 to 100.
        pack: Whether to write one file of raw pixels per video instead of a folder of images.
        reencode: CRF of a re-encoded copy of every video, 0 to 51; None for no copy.
        masks: Whether to cut the mask videos of FF++ too.
        clips: Consecutive frames: ``frames`` are taken as evenly spaced clips of so many.

    Raises:
        TokdError: A value is out of range, or options contradict each other (``pack`` with PNG, a
            JPEG quality without JPEG).
    """

    frames: int = 32
    size: int = 299
    margin: float = 1.3
    encoding: Encoding = "jpeg"
    jpeg_quality: int = _JPEG_QUALITY
    pack: bool = False
    reencode: int | None = None
    masks: bool = False
    clips: int = 1

    def __post_init__(self) -> None:
        wanted = {
            f"--frames {self.frames} must be at least 1": self.frames >= 1,
            f"--size {self.size} must be from {_SMALLEST} to {_LARGEST}": (
                _SMALLEST <= self.size <= _LARGEST
            ),
            f"--margin {self.margin} must be above 0 and at most 10": 0 < self.margin <= 10,
            f"--encoding {self.encoding} must be jpeg or png": self.encoding in ("jpeg", "png"),
            f"--jpeg-quality {self.jpeg_quality} must be from 1 to 100": (
                1 <= self.jpeg_quality <= 100
            ),
            f"--reencode {self.reencode} is no CRF: give 0 to {_WORST_CRF}": (
                self.reencode is None or 0 <= self.reencode <= _WORST_CRF
            ),
            f"--clips {self.clips} must divide --frames {self.frames}": (
                self.clips >= 1 and self.frames % self.clips == 0
            ),
            "only JPEG has a quality: leave out --jpeg-quality": (
                self.jpeg_quality == _JPEG_QUALITY or (self.encoding == "jpeg" and not self.pack)
            ),
            "--pack stores raw pixels: leave out --encoding png": (
                not (self.pack and self.encoding == "png")
            ),
        }
        for message, met in wanted.items():
            if not met:
                raise TokdError(message)

    @property
    def record(self) -> dict[str, Any]:
        """Return the options as ``prepare.json`` holds them; later ones if they are used."""
        later = ("masks", "clips")
        unused = {name for name in later if getattr(self, name) == getattr(Options, name)}
        record = asdict(self) | {"encoding": self.stored_as}
        return {name: value for name, value in record.items() if name not in unused}

    def chosen(self, length: int) -> list[int]:
        """Return the frames to take of a video.

        Args:
            length: Number of its frames.

        Returns:
            Increasing numbers: evenly spaced frames, or evenly spaced clips of consecutive frames;
            clips of a short video overlap, and are then fewer frames.
        """
        if self.clips == 1:
            return evenly_spaced(length, self.frames)
        starts = evenly_spaced(max(1, length - self.clips + 1), self.frames // self.clips)
        numbers = {start + step for start in starts for step in range(self.clips)}
        return sorted(number for number in numbers if number < length)

    @property
    def stored_as(self) -> str:
        """Name of the encoding in the manifest: ``jpeg95-444``, ``png`` or ``pack``."""
        if self.pack:
            return "pack"
        return f"jpeg{self.jpeg_quality}-444" if self.encoding == "jpeg" else "png"

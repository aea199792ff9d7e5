"""Portraits of the demo: faces drawn by the program, or photographs of a folder."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Protocol

import numpy as np

from tokd_lightning.data.blending.points import Points
from tokd_lightning.demo.clips import Portrait
from tokd_lightning.demo.faces import draw_face
from tokd_lightning.demo.photographs import frame_photograph, list_photographs, look_of, read
from tokd_lightning.errors import TokdError


def generator(seed: int, index: int, purpose: str) -> np.random.Generator:
    """Return a random generator that depends only on seed, identity and purpose."""
    return np.random.default_rng([seed, index, zlib.crc32(purpose.encode())])


class Cast(Protocol):
    """Portraits by number; 2k and 2k + 1 look alike and swap faces."""

    @property
    def source(self) -> str:
        """Return the origin of the portraits; equal strings mean equal portraits."""

    def portrait(self, index: int) -> Portrait:
        """Return one portrait."""


class ProceduralCast:
    """Procedurally drawn people, who do not exist.

    Args:
        seed: Seed of the faces.
        size: Side of a portrait in pixels.
    """

    source = "procedural faces"

    def __init__(self, seed: int, size: int) -> None:
        self.seed, self.size = seed, size

    def portrait(self, index: int) -> Portrait:
        """Draw one face; the two of a pair share their ``kin`` generator."""
        kin = generator(self.seed, index // 2, "kin")
        return draw_face(generator(self.seed, index, "face"), kin, self.size)


class PhotographCast:
    """People from a folder of photographs, paired by brightness, pairs in random order.

    Args:
        folder: Frontal portraits, one person each.
        landmarks: CSV without header, a line per photograph: file name, then x, y pairs in pixels;
            189 as in the Face Research Lab London Set, or iBUG's 68.
        identities: Number of people; ``None`` takes all, one less if that is odd.
        seed: Seed of the selection, the order and the framing.

    Raises:
        TokdError: Folder or file missing, a photograph unreadable or without points, too few.
    """

    def __init__(self, folder: Path, landmarks: Path, identities: int | None, seed: int) -> None:
        self.seed = seed
        found = list_photographs(folder, landmarks)
        wanted = len(found) // 2 * 2 if identities is None else identities
        if wanted > len(found):
            message = f"{folder} holds {len(found)} photographs, {wanted} identities were asked for"
            raise TokdError(f"{message}: ask for fewer or add photographs")
        rng = generator(seed, 0, "photographs")
        drawn = sorted(rng.permutation(len(found))[:wanted])
        digest = hashlib.sha256()
        looks: list[tuple[float, Path, Points]] = []
        for path, points in (found[i] for i in drawn):
            picture = read(path)
            digest.update(path.name.encode() + path.read_bytes() + points.tobytes())
            looks.append((look_of(picture, points), path, points))
        looks.sort(key=lambda look: look[0])
        pairs = rng.permutation(wanted // 2)
        order = [2 * pair + member for pair in pairs for member in (0, 1)]
        self.people = [looks[i][1:] for i in order]
        self.source = f"photographs {digest.hexdigest()[:16]}"

    def __len__(self) -> int:
        return len(self.people)

    def portrait(self, index: int) -> Portrait:
        """Read one photograph and crop it around the face."""
        path, points = self.people[index]
        return frame_photograph(read(path), points, generator(self.seed, index, "framing"))

"""Tiny data sets on disk, made of numpy and Pillow alone."""

import json
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

METHODS = ("Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures")


def make_ffpp(
    root: Path,
    ids: int = 10,
    frames: int = 4,
    size: int = 48,
    qualities: Sequence[str] = ("c23",),
    folder: str = "faces",
    suffix: str = ".png",
    methods: Sequence[str] = METHODS,
    links: bool = False,
) -> Path:
    """Make an FF++ tree of its official form; the same arguments make the same files.

    Args:
        root: Where to; made if need be.
        ids: Even number of identities, 6 at least. Neighbours (000, 001) are pairs; a fifth of the
            pairs, at least one, is for validation and as many for the test.
        frames: Per video, named 0000, 0003, 0006, …
        size: Pixels along both sides.
        qualities: Folders per method; noise grows from one to the next.
        folder: faces, frames or images.
        suffix: .png or .jpg.
        methods: Manipulations. Each draws its own fine pattern on the middle of the target's
            frames, so that a small network can tell.
        links: Make a method's frames hard links to its first one, for large trees.
    """
    names = [f"{i:03d}" for i in range(ids)]
    pairs = [list(names[i : i + 2]) for i in range(0, ids, 2)]
    held_out = max(1, len(pairs) // 5)
    write_splits(
        root / "splits",
        train=pairs[: -2 * held_out],
        val=pairs[-2 * held_out : -held_out],
        test=pairs[-held_out:],
    )
    donors = {a: b for pair in pairs for a, b in (pair, pair[::-1])}
    for level, quality in enumerate(qualities):
        for kind, method in enumerate((None, *methods)):
            part = f"manipulated_sequences/{method}" if method else "original_sequences/youtube"
            first: Path | None = None
            for number, name in enumerate(names):
                video = name if method is None else f"{name}_{donors[name]}"
                place = root / part / quality / folder / video
                place.mkdir(parents=True)
                for frame in range(0, 3 * frames, 3):
                    file = place / f"{frame:04d}{suffix}"
                    if links and first is not None:
                        os.link(first, file)
                    else:
                        Image.fromarray(draw(number, frame, size, kind, level)).save(file)
                        first = file
    return root


def make_celebdf(
    root: Path,
    ids: int = 6,
    clips: int = 3,
    youtube: int = 6,
    frames: int = 1,
    size: int = 8,
    inner: str = "",
    youtube_part: str = "YouTube-real",
) -> Path:
    """Make a Celeb-DF tree of its official form, every identity swapped with every other.

    The first identity's clip 0 with its fakes, and the first two of YouTube's, are for testing.

    Args:
        root: Where to; made if need be.
        ids: Identities id0, id1, …
        clips: Real videos of each.
        youtube: Videos of nobody in particular.
        frames: Per video; 0 makes an empty file ``<video>.mp4`` in place of a folder.
        size: Pixels along both sides.
        inner: What lies between a part and its videos, such as ``original/faces``.
        youtube_part: One of its two spellings.
    """
    people, takes = range(ids), range(clips)
    names = {
        "Celeb-real": [f"id{a}_{c:04d}" for a in people for c in takes],
        youtube_part: [f"{i:05d}" for i in range(youtube)],
        "Celeb-synthesis": [
            f"id{a}_id{b}_{c:04d}" for a in people for b in people if a != b for c in takes
        ],
    }
    test = ["1 Celeb-real/id0_0000.mp4", *(f"1 {youtube_part}/{i:05d}.mp4" for i in range(2))]
    test += [f"0 Celeb-synthesis/id0_id{b}_0000.mp4" for b in people if b]
    for kind, (part, videos) in enumerate(names.items()):
        for number, video in enumerate(videos):
            place = root / part / inner / video
            place.parent.mkdir(parents=True, exist_ok=True)
            if not frames:
                place.with_name(f"{video}.mp4").touch()
                continue
            place.mkdir()
            for frame in range(frames):
                image = draw(number, frame, size, kind // 2)
                Image.fromarray(image).save(place / f"{frame:04d}.png")
    (root / "List_of_testing_videos.txt").write_text("\n".join(test), encoding="utf-8")
    return root


def write_splits(folder: Path, **pairs: Sequence[Sequence[str]]) -> None:
    """Write train.json, val.json and test.json as FF++ does."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, members in pairs.items():
        (folder / f"{split}.json").write_text(json.dumps(members), encoding="utf-8")


def draw(identity: int, frame: int, size: int, kind: int = 0, noise: int = 0) -> np.ndarray:
    """Draw a smooth image of one identity; ``kind`` above 0 puts a pattern on its middle."""
    rng = np.random.default_rng([identity, frame, kind, noise])
    colours = np.random.default_rng(identity).uniform(60, 190, (2, 2, 3))
    ramp = np.stack([np.linspace(1, 0, size), np.linspace(0, 1, size)])
    image = np.einsum("ay,bx,abc->yxc", ramp, ramp, colours) + frame % 5
    image += rng.normal(0, 2 + 2 * noise, image.shape)
    if kind:
        y, x = np.mgrid[:size, :size]
        pattern = ((y // (1 + kind // 3) + x // (1 + kind % 3)) % 2 * 2 - 1) * 14
        middle = slice(size // 4, -(size // 4))
        image[middle, middle] += pattern[middle, middle, None]
    return image.round().clip(0, 255).astype(np.uint8)

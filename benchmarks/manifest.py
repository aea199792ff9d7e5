"""Opening the index of 5000 videos: from the folders, and from the cached index."""

import json
import os
import tempfile
import time
from pathlib import Path

from benchmarks.timing import Spread, spread
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.layouts.ffpp import METHODS

FRAMES = 32
_UNTIL_REMEMBERED = 2.5  # seconds; folders that changed just now are not cached


def make_tree(root: Path, identities: int) -> None:
    """Write FF++'s tree with empty frames, hard-linked within each method."""
    names = [f"{i:04d}" for i in range(identities)]
    pairs = [names[i : i + 2] for i in range(0, identities, 2)]
    tenth = max(1, len(pairs) // 10)
    parts = {"test": pairs[:tenth], "val": pairs[tenth : 2 * tenth], "train": pairs[2 * tenth :]}
    (root / "splits").mkdir(parents=True)
    for split, members in parts.items():
        (root / "splits" / f"{split}.json").write_text(json.dumps(members))
    fakes = [f"{target}_{donor}" for a, b in pairs for target, donor in ((a, b), (b, a))]
    places = {"original_sequences/youtube": names}
    places |= {f"manipulated_sequences/{method}": fakes for method in METHODS}
    for place, videos in places.items():
        first = root / place / "frame.jpg"
        first.parent.mkdir(parents=True)
        first.touch()
        for video in videos:
            folder = root / place / "c40/faces" / video
            folder.mkdir(parents=True)
            for frame in range(FRAMES):
                os.link(first, folder / f"{frame:04d}.jpg")


def measure(identities: int = 1000, repeats: int = 5) -> dict[str, Spread]:
    """Return the wall-clock seconds of opening a tree of ``5 * identities`` videos.

    Returns:
        ``folders`` (one opening, nothing cached) and ``remembered`` (cached).
    """
    home = os.environ.get("XDG_CACHE_HOME")
    with tempfile.TemporaryDirectory() as temporary:
        root = Path(temporary) / "ffpp"
        make_tree(root, identities)
        os.environ["XDG_CACHE_HOME"] = temporary
        time.sleep(_UNTIL_REMEMBERED)
        try:
            seconds = [_open(root, 5 * identities) for _ in range(1 + repeats)]
        finally:
            if home is None:
                del os.environ["XDG_CACHE_HOME"]
            else:
                os.environ["XDG_CACHE_HOME"] = home
    first = seconds[0]
    return {"folders": Spread(first, first, first), "remembered": spread(seconds[1:])}


def _open(root: Path, videos: int) -> float:
    start = time.perf_counter()
    manifest = FFPPDataModule(root, quality="c40").manifest
    seconds = time.perf_counter() - start
    assert len(manifest) == videos * FRAMES
    return seconds

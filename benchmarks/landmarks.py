"""Distance of dlib's landmarks on stored crops from hand-placed ones, and their time.

    python -m benchmarks.landmarks FACES LANDMARKS.csv

FACES is a folder of photographs, LANDMARKS.csv their points as for ``tokd demo --faces``. Each
photograph is cropped as ``tokd prepare`` does (Haar detector, margin 1.3, 299 px).
"""

import argparse
import time
from pathlib import Path

import cv2
import numpy as np

from tokd_lightning.data.blending.colour import jpeg
from tokd_lightning.data.blending.points import (
    BROWS,
    EYES,
    INNER_LIPS,
    JAW,
    LIPS,
    NOSE,
    interocular,
)
from tokd_lightning.demo.photographs import list_photographs, read
from tokd_lightning.prepare.finders import make_finder
from tokd_lightning.prepare.frames import cut_out
from tokd_lightning.prepare.landmarks import dlib_predictor

REGIONS = {
    "all 68": slice(0, 68),
    "jaw": JAW,
    "brows": BROWS,
    "nose": NOSE,
    "eyes": EYES,
    "lips": slice(LIPS.start, INNER_LIPS.stop),
}


def measure(faces: Path, landmarks: Path, margin: float, size: int, quality: int) -> None:
    """Print errors in per cent of the distance between the eyes, and milliseconds per face."""
    cv2.setNumThreads(1)
    finder, predictor = make_finder("haar"), dlib_predictor()
    errors, eyes, spent, missed = [], [], [], 0
    for path, points in list_photographs(faces, landmarks):
        picture = read(path)
        [track, *_] = [*finder.find(path.stem, {0: picture}), None]
        if track is None or not track.found:
            missed += 1
            continue
        square = track.square(0, picture.shape[1], picture.shape[0], finder.margin(margin))
        crop = jpeg(cut_out(picture, square, size), quality)
        start = time.process_time()
        found = predictor(crop, margin)
        spent.append(time.process_time() - start)
        wanted = (points - [square.x, square.y] + 0.5) * (size / square.side) - 0.5
        unit = interocular(wanted)
        errors.append(np.linalg.norm(found - wanted, axis=1) / unit)
        centres = [
            p[part].mean(0) for part in (slice(36, 42), slice(42, 48)) for p in (found, wanted)
        ]
        eyes.append([np.linalg.norm(a - b) / unit for a, b in (centres[:2], centres[2:])])
    print(f"{len(errors)} faces, {missed} not found; margin {margin}, {size} px, JPEG {quality}")
    for name, part in REGIONS.items():
        mine = 100 * np.array(errors)[:, part]
        print(f"{name:10} mean {mine.mean():5.2f} %  median {np.median(mine):5.2f} %  "
              f"worst face {mine.mean(1).max():5.2f} %")  # fmt: skip
    print(f"eye centres mean {100 * np.mean(eyes):5.2f} %")
    print(f"{1000 * np.mean(spent):.1f} ms a face")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("faces", type=Path)
    parser.add_argument("landmarks", type=Path)
    parser.add_argument("--margin", type=float, default=1.3)
    parser.add_argument("--size", type=int, default=299)
    parser.add_argument("--quality", type=int, default=95)
    given = parser.parse_args()
    measure(given.faces, given.landmarks, given.margin, given.size, given.quality)

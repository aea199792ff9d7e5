"""Face cropping for a student: the same as for its training frames."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from tokd_lightning.deploy.found import ReadOptions
from tokd_lightning.deploy.source import Source
from tokd_lightning.deploy.validation import Validation
from tokd_lightning.errors import TokdError

_MARGIN = 1.3
_TRIED = 48
_AGREES = 0.02
_BOX = "x, y, width, height of the crop, margin included, in pixels of the upright picture"


class Cutting(NamedTuple):
    """Face cropping to record for a model.

    Attributes:
        face: The entry ``face`` of ``model.json``.
        file: The YuNet file to copy next to the model; None if there is none to copy.
    """

    face: dict[str, Any]
    file: Path | None


def cutting(source: Source, known: Validation, detector: str | None = None) -> Cutting:
    """Determine how the training frames were cropped.

    For frames of ``tokd prepare``, ``prepare.json`` or the manifest states it. Otherwise some
    validation frames are scored as ``tokd detect`` would, whole and with the face cropped; faces
    are cropped if that reproduces the validation scores (mean difference at most 0.02), else
    pictures are taken whole.

    Args:
        source: The student.
        known: Its validation split.
        detector: Face detector to use instead.

    Raises:
        TokdError: The detector is a table of boxes, or it or ``prepare.json`` cannot be read.
    """
    said = _said(known)
    margin = float(said.get("margin", _MARGIN))
    stored = said.get("stored")
    if detector is not None:
        from tokd_lightning.prepare.finders import fingerprint, make_finder

        make_finder(detector)
        name, why = fingerprint(detector), "given to tokd export"
        if name.startswith("boxes-"):
            raise TokdError(f"--detector {detector} is a table of boxes, which new pictures lack")
        file = Path(detector) if name.startswith("yunet-") else None
        kept = stored if name != "none" or said.get("detector") == "none" else None
        return Cutting(_face(name, 1.0 if name == "none" else margin, kept, why), file)
    if (name := str(said.get("detector", ""))) and not name.startswith("boxes-"):
        file = None if known.root is None else known.root / "detector.onnx"
        there = name.startswith("yunet-") and file is not None and file.is_file()
        why = "as tokd prepare made the training frames"
        return Cutting(
            _face(name, 1.0 if name == "none" else margin, stored, why), file if there else None
        )
    if name:
        why = f"tokd prepare cut the training frames at given boxes ({name}); haar is a guess"
        return Cutting(_face("haar", margin, stored, why), None)
    if known.scores is None or known.root is None:
        why = "the default of tokd prepare; the training frames do not say how they were cut out"
        return Cutting(_face("haar", _MARGIN, None, why), None)
    return Cutting(_agreeing(source, known.scores, known.root), None)


def _face(detector: str, margin: float, stored: int | None, why: str) -> dict[str, Any]:
    return {"detector": detector, "margin": margin, "stored": stored, "box": _BOX, "source": why}


def _said(known: Validation) -> dict[str, Any]:
    """Read detector, margin and size from prepare.json or the manifest; empty if not stated."""
    file = None if known.root is None else known.root / "prepare.json"
    if file is not None and file.is_file():
        try:
            made = json.loads(file.read_text(encoding="utf-8"))
            stored = made.get("size")
            return {
                "detector": str(made["detector"]),
                "margin": float(made["margin"]),
                "stored": None if stored is None else int(stored),
            }
        except (OSError, ValueError, TypeError, LookupError, AttributeError) as error:
            raise TokdError(f"{file} cannot be read: repair or remove it") from error
    columns = ("detector", "margin", "stored")
    if known.frames is None or not set(columns) <= set(known.frames.columns):
        return {}
    rows = known.frames[list(columns)].drop_duplicates()
    try:
        detector, margin, stored = rows.iloc[0] if len(rows) == 1 else ("", "", "")
        return {"detector": str(detector), "margin": float(margin), "stored": int(stored)}
    except ValueError:
        return {}


def _agreeing(source: Source, scores: pd.DataFrame, root: Path) -> dict[str, Any]:
    """Score validation frames as tokd detect would; choose the cropping that agrees best."""
    files = scores[~scores["path"].str.contains("#")]
    chosen = np.linspace(0, len(files) - 1, min(_TRIED, len(files))).round().astype(int)
    rows = files.iloc[chosen]
    apart: dict[str, float] = {}
    try:
        for detector in ("none", "haar"):
            wanted = ReadOptions(1, source.size, detector, _MARGIN, show=False)
            apart[detector] = _apart(source, rows, root, wanted)
    except TokdError:  # OpenCV is missing; pictures are taken whole, as in training
        apart = {}
    best = "haar" if apart.get("haar", 1.0) <= _AGREES else "none"
    why = "the training frames do not say how they were cut out; "
    if not apart or not len(rows):
        why += "they are taken whole, as in training"
    else:
        why += (
            f"on {len(rows)} of the validation frames P(fake) is off by {apart['none']:.3f} on "
            f"average where they are taken whole, by {apart['haar']:.3f} where the face is cut out "
            f"(haar, margin {_MARGIN:g})"
        )
    return _face(best, _MARGIN if best == "haar" else 1.0, None, why)


@torch.inference_mode()
def _apart(source: Source, rows: pd.DataFrame, root: Path, wanted: ReadOptions) -> float:
    """Return the mean absolute difference of the scores; a frame without a face counts as 1."""
    from tokd_lightning.deploy.read import read

    differences = []
    for path, p_fake in zip(rows["path"], rows["p_fake"], strict=True):
        found = read(root / path, wanted)
        if not found.looks:
            differences.append(1.0)
            continue
        logits = source.model(network_input(found.looks[0].face[None], source))
        differences.append(abs(float(logits.double().softmax(1)[0, 1]) - float(p_fake)))
    return float(np.mean(differences)) if differences else 1.0


def network_input(faces: np.ndarray, source: Source) -> torch.Tensor:
    """Convert faces, RGB ``(N, size, size, 3)``, to the network's input ``(N, 3, crop, crop)``."""
    start = (source.size - source.crop) // 2
    middle = faces[:, start : start + source.crop, start : start + source.crop]
    mean, std = (_column(source.model.header[key]) for key in ("mean", "std"))
    writable = np.require(middle, requirements=("C", "W"))
    images = torch.from_numpy(writable).permute(0, 3, 1, 2).float() / 255
    normalised: torch.Tensor = (images - mean) / std
    return normalised


def _column(value: Any) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float32).reshape(-1, 1, 1)


def resampling(face: Mapping[str, Any]) -> str:
    """Describe in a sentence how the crop is resized to the input."""
    if face["detector"] == "none" and face["stored"] is None:
        return "the whole picture to size x size: bilinear, antialiased (Pillow's BILINEAR)"
    said = "by area where it shrinks (cv2.INTER_AREA), bicubic where it grows (cv2.INTER_CUBIC)"
    if face["stored"] is None:
        return f"crop to size x size: {said}"
    return (
        f"crop to stored x stored: {said}; that to size x size: bilinear, antialiased (Pillow's "
        "BILINEAR)"
    )

"""``model.json``: description of an exported student and of its preprocessing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tokd_lightning.errors import TokdError, reason

RECORD = "model.json"
CARD = "MODEL_CARD.md"
FILES = {
    "onnx": "model.onnx",
    "onnx-int8": "model.int8.onnx",
    "safetensors": "model.safetensors",
}
DETECTOR = "face_detector.onnx"
REFERENCE = ("reference.png", "reference.npy")
EXAMPLES = ("example.py", "example.mjs", "resize.js")
CLASSES = ("real", "fake")
_CHANCE = 0.6
FORM = 1
"""Version of ``model.json``."""
_BROKEN = (
    *(OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError),
    RecursionError,
)


class Face(NamedTuple):
    """Face cropping of a model.

    Attributes:
        detector: ``haar``, ``mtcnn``, ``none``, or ``yunet-`` and the hash of its file.
        margin: Side of the crop / side of the face.
        source: Where these values come from.
        stored: Side in pixels to which a crop is resized first; None if it is the size of the
            input, or, with the detector ``none``, if pictures are taken whole.
    """

    detector: str
    margin: float
    source: str
    stored: int | None = None


class Model(NamedTuple):
    """An exported student.

    Attributes:
        folder: Its folder.
        name: Name of the run or checkpoint it comes from.
        network: Arguments of :class:`~tokd_lightning.models.Student`.
        size: Side in pixels to which a face is resized.
        crop: Side of its centre crop, the input; at most ``size``.
        mean: Mean to subtract from each channel in [0, 1].
        std: Standard deviation to divide each channel by.
        face: Its face cropping.
        thresholds: Level, ``frame`` or ``video``, to the value of P(fake) above which it is fake.
        files: Format to the file's ``name``, ``sha256`` and ``bytes``.
        record: Content of ``model.json``.
    """

    folder: Path
    name: str
    network: dict[str, Any]
    size: int
    crop: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    face: Face
    thresholds: dict[str, float]
    files: dict[str, dict[str, Any]]
    record: dict[str, Any]

    @property
    def warnings(self) -> list[str]:
        """Reasons why its verdicts mean little."""
        return warnings(self.record)

    def detector(self) -> str:
        """Return the name or the file of the face detector.

        Raises:
            TokdError: It is a YuNet file that is missing next to the model, or has changed.
        """
        name = self.face.detector
        if not name.startswith("yunet-"):
            return name
        file = self.folder / DETECTOR
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
        except OSError:
            digest = ""
        if name != f"yunet-{digest[:16]}":
            raise TokdError(
                f"{self.folder} was trained on faces found by YuNet ({name}), whose file is not "
                f"there as {DETECTOR}: give it with --detector"
            )
        return str(file)

    def file(self, kind: str) -> Path:
        """Return the file of a format after checking its hash.

        Args:
            kind: A key of :data:`FILES`.

        Raises:
            TokdError: The model was not exported to that format, or the file is missing or changed.
        """
        if kind not in self.files:
            there = " and ".join(self.files)
            instead = " or ask for --backend torch" if kind == "onnx" else " or leave --backend out"
            raise TokdError(
                f"{self.folder} holds only {there}: tokd export … --format {kind},{instead}"
            )
        path = self.folder / FILES[kind]
        try:
            digest = hashlib.sha256(path.read_bytes()).hexdigest()
        except OSError as error:
            raise TokdError(f"{path} cannot be read: {reason(error)}") from error
        if digest != self.files[kind]["sha256"]:
            raise TokdError(
                f"{path} is not the file that {RECORD} next to it describes: export again"
            )
        return path


def open_model(path: Path) -> Model:
    """Read an exported student.

    Args:
        path: Its folder, or a file in it; ``hf:OWNER/NAME`` is downloaded from the Hub.

    Raises:
        TokdError: The path has no exported model, or not one of this package and version.
    """
    if str(path).startswith("hf:"):
        from tokd_lightning.deploy.hub import fetch

        path = fetch(str(path).removeprefix("hf:"))
    if not path.exists():
        raise TokdError(f"{path} does not exist: tokd export RUN --format onnx --out {path}")
    folder = path if path.is_dir() else path.parent
    file = folder / RECORD
    if path.suffix == ".ckpt" or (folder / "fit.yaml").is_file():
        raise TokdError(f"{path} is what tokd fit left: tokd export {path} --format onnx --out DIR")
    if not file.is_file() or (path.is_file() and path.name not in (RECORD, *FILES.values())):
        raise TokdError(
            f"{path} is not an exported model: it needs the {RECORD} that tokd export wrote"
        )
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        if record["tokd_model"] != FORM:
            raise TokdError(f"{file} is of another version of tokd_lightning: export again")
        return _model(folder, record)
    except _BROKEN as error:
        raise TokdError(f"{file} is not what tokd export writes: export again") from error


def _model(folder: Path, record: dict[str, Any]) -> Model:
    fed, face = record["input"], record["face"]
    size, crop = int(fed["size"]), int(fed["crop"])
    mean, std = (tuple(float(value) for value in fed[key]) for key in ("mean", "std"))
    if not (1 <= crop <= size <= 4096 and len(mean) == len(std) == 3 and min(std) > 0):
        raise ValueError("no input of a network")
    margin = float(face["margin"])
    given = face.get("stored")  # missing in older models
    stored = None if given is None else int(given)
    if stored is not None and not 1 <= stored <= 4096:
        raise ValueError("no size of a picture")
    thresholds = {level: float(record["threshold"][level]["value"]) for level in ("frame", "video")}
    if not (np.isfinite([*mean, *std, margin]).all() and margin > 0):
        raise ValueError("numbers that are none")
    if not all(0 <= value <= 1 for value in thresholds.values()):
        raise ValueError("no threshold of a probability")
    if tuple(record["classes"]) != CLASSES:
        raise ValueError("other classes")
    files = {kind: dict(record["files"][kind]) for kind in FILES if kind in record["files"]}
    if not files or not all(isinstance(file["sha256"], str) for file in files.values()):
        raise ValueError("no file")
    return Model(
        folder=folder,
        name=str(record["name"]),
        network=dict(record["network"]),
        size=size,
        crop=crop,
        mean=mean,
        std=std,
        face=Face(str(face["detector"]), margin, str(face["source"]), stored),
        thresholds=thresholds,
        files=files,
        record=record | {"trained": {**record["trained"]}},
    )


def warnings(record: Mapping[str, Any]) -> list[str]:
    """Return reasons why a model's verdicts mean little.

    Args:
        record: Content of ``model.json``.
    """
    found = []
    if record["trained"].get("synthetic"):
        found.append("trained on synthetic faces, drawn by tokd demo: of no use on real ones")
    auc = record["threshold"]["frame"].get("at_half", {}).get("auc")
    if auc is None:
        auc = record.get("metrics", {}).get("val/frame/auc")
    if isinstance(auc, int | float) and auc < _CHANCE:
        found.append(f"its AUC on validation frames is {auc:.1%}, and 50% is chance")
    return found

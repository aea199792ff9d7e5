"""``tokd export``: a trained student as files that need no training code."""

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tokd_lightning.data.writing import write_bytes, write_text
from tokd_lightning.deploy.card import model_card
from tokd_lightning.deploy.networks import (
    INPUT,
    OPSET,
    OUTPUTS,
    Deployed,
    from_safetensors,
    to_onnx,
    to_safetensors,
)
from tokd_lightning.deploy.parity import Answer, onnx_answer, parity
from tokd_lightning.deploy.record import CARD, CLASSES, FILES, FORM, RECORD, open_model
from tokd_lightning.deploy.source import Source, open_source
from tokd_lightning.deploy.thresholds import thresholds
from tokd_lightning.deploy.validation import Validation, validation
from tokd_lightning.errors import TokdError
from tokd_lightning.provenance import commit, source_hash, versions

_MARGIN = 1.3
_HEAT = (
    "class activation map: (weights of fake - weights of real) . last map of S_B + difference of "
    "the biases, per place; its mean is the fake logit minus the real one"
)


def export(
    source: Path, out: Path, formats: Sequence[str] = ("onnx",), data: Path | None = None
) -> int:
    """Write a student to a folder: network, ``model.json``, ``MODEL_CARD.md``.

    Args:
        source: A run's folder, or a checkpoint.
        out: The folder; new, empty or holding an earlier export. Files of the same weights in
            another format stay.
        formats: ``onnx``, ``safetensors`` or both.
        data: Where the run's data lie, if not where its configuration says.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: It is no student of ours, the folder holds something else or cannot be written,
            a package is missing, or the files do not answer as the training module does.
    """
    out = Path(out)
    _refuse_folder(out)
    if data is not None and not data.is_dir():
        raise TokdError(f"--data {data}: there is no such folder")
    opened = open_source(Path(source))
    print(f"{opened.name}: {opened.student.spec['backbone']}, {opened.crop} px", flush=True)
    contents = {kind: _content(opened, kind) for kind in dict.fromkeys(formats)}
    known = validation(opened, data)
    print(f"validation: {known.said}", flush=True)
    record = _record(opened, known, data)
    for kind, content in contents.items():
        record["files"][kind] = {
            "name": FILES[kind],
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
            **(
                {"input": INPUT, "outputs": list(OUTPUTS), "opset": OPSET} if kind == "onnx" else {}
            ),
            "parity": (found := parity(opened, _answer(opened, kind, content, out), known.inputs)),
        }
        print(_parity_line(kind, len(content), found), flush=True)
    _keep_others(out, record)
    _write(out, record, contents, opened)
    for level in ("frame", "video"):
        chosen = record["threshold"][level]
        print(f"threshold, {level}s: {chosen['value']:.4f}, {chosen['rule']}")
    print(f"{out}: {', '.join([*(FILES[kind] for kind in record['files']), RECORD, CARD])}")
    return 0


def _record(source: Source, known: Validation, data: Path | None) -> dict[str, Any]:
    header = source.model.header
    return {
        "tokd_model": FORM,
        "name": source.name,
        "classes": list(CLASSES),
        "network": header["network"],
        "parameters": sum(weight.numel() for weight in source.student.parameters()),
        "input": {
            "size": source.size,
            "crop": source.crop,
            "mean": _three(header["mean"]),
            "std": _three(header["std"]),
            "channels": "RGB, (N, 3, crop, crop), values / 255, then (x - mean) / std",
        },
        "face": _face(source, data),
        "threshold": thresholds(known.scores, known.said),
        "validation": known.said,
        "heat_map": _HEAT,
        "files": {},
        "trained": source.about(),
        "metrics": source.results.get("metrics", {}),
        "exported_with": {"source": source_hash(), "commit": commit(), "versions": versions()},
    }


def _face(source: Source, data: Path | None) -> dict[str, Any]:
    """Say how faces were cut out for training, or what ``tokd prepare`` does by default."""
    given = source.config["data"]["init_args"].get("root") if source.config else None
    root = data or (Path(given) if given else None)
    if root is not None and (root / "prepare.json").is_file():
        try:
            made = json.loads((root / "prepare.json").read_text(encoding="utf-8"))
            detector, margin = str(made["detector"]), float(made["margin"])
        except (OSError, ValueError, TypeError, LookupError) as error:
            raise TokdError(
                f"{root / 'prepare.json'} cannot be read: repair or remove it"
            ) from error
        known = detector if detector in ("haar", "mtcnn", "none") else "haar"
        said = "as tokd prepare made the training frames"
        if known != detector:
            said += f", there with the detector {detector}"
        return {"detector": known, "margin": margin, "source": said}
    said = "the default of tokd prepare; the training frames do not say how they were cut out"
    return {"detector": "haar", "margin": _MARGIN, "source": said}


def _content(source: Source, kind: str) -> bytes:
    about = {"tokd_model": FORM, "name": source.name, "weights": source.model.weights}
    about |= {"classes": list(CLASSES), "network": source.student.spec}
    if kind == "onnx":
        return to_onnx(Deployed(source.student), source.crop, about)
    return to_safetensors(source.student, about)


def _answer(source: Source, kind: str, content: bytes, out: Path) -> Answer:
    """Let an exported file answer, read back as a user of it would."""
    if kind == "onnx":
        return onnx_answer(content)
    file = out.with_name(f".{out.name}.{os.getpid()}.safetensors.part")
    try:
        write_bytes(file, content)
        network = from_safetensors(file, source.student.spec)
    finally:
        file.unlink(missing_ok=True)

    def answer(images: Any) -> Any:
        with torch.inference_mode():
            return tuple(value.numpy() for value in network(torch.from_numpy(images)))

    return answer


def _write(out: Path, record: dict[str, Any], contents: dict[str, bytes], source: Source) -> None:
    """Write the files, ``model.json`` last: without it the folder holds no model."""
    (out / RECORD).unlink(missing_ok=True)
    for kind, name in FILES.items():
        if kind not in record["files"]:
            (out / name).unlink(missing_ok=True)
    for kind, content in contents.items():
        write_bytes(out / FILES[kind], content)
    write_text(out / CARD, model_card(record, source))
    write_text(out / RECORD, json.dumps(record, indent=2) + "\n")


def _keep_others(out: Path, record: dict[str, Any]) -> None:
    """Keep what an earlier export of the same weights has written in another format."""
    try:
        earlier = open_model(out)
    except TokdError:
        return
    if earlier.record.get("trained", {}).get("weights") != record["trained"]["weights"]:
        return
    for kind, file in earlier.files.items():
        if kind not in record["files"] and (out / FILES[kind]).is_file():
            record["files"][kind] = file


def _refuse_folder(out: Path) -> None:
    ours = {RECORD, CARD, *FILES.values()}
    if out.exists() and not out.is_dir():
        raise TokdError(f"--out {out} is a file: give a folder")
    if out.is_dir() and {path.name for path in out.iterdir()} - ours:
        raise TokdError(f"--out {out} holds other files: give a new folder, or an earlier export")
    there = next(path for path in (out, *out.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise TokdError(f"--out {out} cannot be written")


def _parity_line(kind: str, size: int, found: dict[str, Any]) -> str:
    real = "no real ones at hand"
    if found["real"] is not None:
        real = f"{found['real']:.1e} on {found['real_inputs']} real ones"
    return (
        f"{FILES[kind]}: {size / 1e6:.1f} MB; logits differ from the training module's by at most "
        f"{found['random']:.1e} on {found['random_inputs']} random inputs, {real} "
        f"({found['tolerance']:g} allowed)"
    )


def _three(value: float | Sequence[float]) -> list[float]:
    values = [value] if isinstance(value, int | float) else list(value)
    return [float(v) for v in (values * 3 if len(values) == 1 else values)]

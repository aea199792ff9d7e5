"""``tokd export``: write a trained student as files that need no training code."""

import hashlib
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tokd_lightning.deploy.card import model_card
from tokd_lightning.deploy.crop import cutting, resampling
from tokd_lightning.deploy.int8 import WORTH, gate_line, quantise_checked
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
from tokd_lightning.deploy.record import (
    CARD,
    CLASSES,
    DETECTOR,
    EXAMPLES,
    FILES,
    FORM,
    RECORD,
    REFERENCE,
    open_model,
    warnings,
)
from tokd_lightning.deploy.reference import example_files, int8_logits, reference
from tokd_lightning.deploy.source import Source, open_source
from tokd_lightning.deploy.temperature import calibrate as fit_classifier
from tokd_lightning.deploy.thresholds import thresholds
from tokd_lightning.deploy.validation import Validation, validation
from tokd_lightning.deploy.web import (
    FOLDER,
    PACKAGE,
    VERSION,
    compressed,
    page_files,
    page_names,
    runtime_files,
)
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_bytes, write_json, write_text
from tokd_lightning.runs.provenance import commit, source_hash, versions

_FLOAT = ("onnx", "safetensors")
_HEAT = (
    "class activation map: (weights of fake - weights of real) . last map of S_B + difference of "
    "the biases, per place; its mean is the fake logit minus the real one"
)
_NO_HEAT = "no class activation map: one value, the fake logit minus the real one, without a place"


def export(
    source: Path,
    out: Path,
    formats: Sequence[str] = ("onnx",),
    data: Path | None = None,
    detector: str | None = None,
    calibrate: bool = False,
    runtime: Path | None = None,
) -> int:
    """Write a student to a folder: network, ``model.json``, ``MODEL_CARD.md``.

    Args:
        source: A run's folder, or a checkpoint.
        out: The folder; new, empty or holding an earlier export. Files of the same weights in
            another format are kept.
        formats: Some of ``onnx``, ``onnx-int8``, ``safetensors`` and ``web``. A page comes with the
            network that it runs: int8 where that passes its gate, else float.
        data: Where the run's data are, if not where its configuration says.
        detector: Face detector to record; by default the one that cropped the training frames.
        calibrate: Whether to divide the logits by the temperature that fits the validation scores.
        runtime: Folder of ONNX Runtime Web for a page; by default npm fetches it.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: The source is not a student of this package, the folder holds something else or
            cannot be written, a package is missing, or the outputs of a written file differ from
            the training module's.
    """
    out = Path(out)
    _refuse_folder(out)
    if data is not None and not data.is_dir():
        raise TokdError(f"--data {data} does not exist")
    ready = runtime_files(runtime) if "web" in formats else {}
    opened = open_source(Path(source))
    print(f"{opened.name}: {opened.network}, {opened.crop} px", flush=True)
    if opened.outdated:
        print(
            "warning: metrics.json describes other weights than best.ckpt: its metrics are left "
            f"out; tokd test {source} measures these"
        )
    known, temperature = None, None
    if calibrate:
        known, temperature = fit_classifier(opened, validation(opened, data))
        print(
            "temperature: {value}, ECE {before[ece]:.4f} -> {after[ece]:.4f}".format(**temperature)
        )
    contents = {kind: _content(opened, kind) for kind in _FLOAT if kind in formats}
    if known is None:
        known = validation(opened, data)
    print(f"validation: {known.said}", flush=True)
    cut = cutting(opened, known, detector)
    print(f"faces: {cut.face['detector']}, margin {cut.face['margin']:g}: {cut.face['source']}")
    record = _record(opened, known, cut.face)
    if (quality := known.jpeg_quality()) is not None:
        record["trained"]["jpeg_quality"] = quality
    if temperature is not None:
        record["temperature"] = temperature
    record["reference"], extra = reference(opened, cut.face)
    if cut.file is not None:
        extra[DETECTOR] = cut.file.read_bytes()
    elif cut.face["detector"].startswith("yunet-"):
        print(f"{out}: tokd detect will need the YuNet file; --detector FILE puts it there")
    for kind, content in contents.items():
        found = parity(opened, _answer(opened, kind, content, out), known.inputs)
        record["files"][kind] = _entry(kind, content) | {"parity": found}
        print(_parity_line(kind, len(content), found), flush=True)
    if {"onnx-int8", "web"} & set(formats):
        contents |= _small(opened, known, record, contents, "onnx-int8" in formats)
    if ready:
        extra |= _page(record, contents, ready)
    _keep_others(out, record)
    if record["reference"] and {"onnx", "onnx-int8"} & set(record["files"]):
        extra |= example_files()
        if "onnx-int8" in record["files"]:
            content = contents.get("onnx-int8") or (out / FILES["onnx-int8"]).read_bytes()
            record["reference"]["logits_int8"] = int8_logits(content, extra[REFERENCE[1]])
    _write(out, record, contents, extra, opened)
    for level in ("frame", "video"):
        chosen = record["threshold"][level]
        print(f"threshold, {level}s: {chosen['value']:.4f}, {chosen['rule']}")
    for warning in warnings(record):
        print(f"warning: {warning}")
    beside = [name for name in extra if not name.startswith(f"{FOLDER}/")]
    names = [*(FILES[kind] for kind in record["files"]), *beside, RECORD, CARD]
    print(f"{out}: {', '.join(names)}")
    if ready:
        print(f"open {out / FOLDER / 'index.html'} in a browser, or copy the folder {FOLDER}")
    return 0


def _small(
    source: Source,
    known: Validation,
    record: dict[str, Any],
    contents: dict[str, bytes],
    required: bool,
) -> dict[str, bytes]:
    """Quantise the network and record its gate; for a page alone, the float one takes its place."""
    content = contents.get("onnx") or _content(source, "onnx")
    try:
        threshold = record["threshold"]["frame"]["value"]
        made, gate = quantise_checked(content, known, threshold, source.crop)
    except TokdError as error:
        if required:
            raise TokdError(
                f"{error}. Nothing was written; --format onnx is not affected"
            ) from error
        print(f"the page gets the float network: {error}", flush=True)
        if "onnx" not in contents:
            found = parity(source, onnx_answer(content), known.inputs)
            record["files"]["onnx"] = _entry("onnx", content) | {"parity": found}
        return {"onnx": content}
    record["files"]["onnx-int8"] = _entry("onnx-int8", made) | {"gate": gate}
    print(gate_line(gate, len(made)), flush=True)
    if gate["speed"] < WORTH:
        print(f"warning: int8 gains little here: {gate['speed']:g} times the speed of float")
    return {"onnx-int8": made}


def _page(
    record: dict[str, Any], contents: dict[str, bytes], runtime: dict[str, bytes]
) -> dict[str, bytes]:
    """Make the page and record it."""
    kind = "onnx-int8" if "onnx-int8" in contents else "onnx"
    said = {"onnx-int8": "int8", "onnx": "float"}[kind]
    shown = {key: value for key, value in record.items() if key != "exported_with"}
    files = page_files(shown | {"warnings": warnings(record)}, contents[kind], said, runtime)
    whole, small = sum(map(len, files.values())), compressed(files)
    record["web"] = {
        "folder": FOLDER,
        "network": kind,
        "runtime": f"{PACKAGE} {VERSION}",
        "bytes": whole,
        "compressed": small,
    }
    print(f"{FOLDER}: {whole / 1e6:.1f} MB, {small / 1e6:.1f} MB compressed, {said} network")
    return {f"{FOLDER}/{name}": content for name, content in files.items()}


def _entry(kind: str, content: bytes) -> dict[str, Any]:
    entry = {
        "name": FILES[kind],
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
    }
    if kind != "safetensors":
        entry |= {"input": INPUT, "outputs": list(OUTPUTS), "opset": OPSET}
    return entry


def _record(source: Source, known: Validation, face: dict[str, Any]) -> dict[str, Any]:
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
            "resampling": f"{resampling(face)}; then the middle crop x crop",
        },
        "face": face,
        "threshold": thresholds(known.scores),
        "validation": known.said,
        "heat_map": _HEAT if getattr(source.student, "has_heat_map", True) else _NO_HEAT,
        "files": {},
        "trained": source.about(),
        "metrics": source.results.metrics if source.results else {},
        "exported_with": {"source": source_hash(), "commit": commit(), "versions": versions()},
    }


def _content(source: Source, kind: str) -> bytes:
    about = {"tokd_model": FORM, "name": source.name, "weights": source.model.weights}
    about |= {"classes": list(CLASSES), "network": source.student.spec}
    if kind == "onnx":
        return to_onnx(Deployed(source.student), source.crop, about)
    return to_safetensors(source.student, about)


def _answer(source: Source, kind: str, content: bytes, out: Path) -> Answer:
    """Return a function that runs an exported file, read back as a user would."""
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


def _write(
    out: Path,
    record: dict[str, Any],
    contents: dict[str, bytes],
    extra: dict[str, bytes],
    source: Source,
) -> None:
    """Write the files, ``model.json`` last: without it the folder is not a model."""
    (out / RECORD).unlink(missing_ok=True)
    for name in (DETECTOR, *REFERENCE, *EXAMPLES):
        if name not in extra:
            (out / name).unlink(missing_ok=True)
    if "web" not in record or f"{FOLDER}/index.html" in extra:
        shutil.rmtree(out / FOLDER, ignore_errors=True)
    for name, content in extra.items():
        write_bytes(out / name, content)
    for kind, name in FILES.items():
        if kind not in record["files"]:
            (out / name).unlink(missing_ok=True)
    for kind, content in contents.items():
        write_bytes(out / FILES[kind], content)
    write_text(out / CARD, model_card(record, source))
    write_json(out / RECORD, record)


def _keep_others(out: Path, record: dict[str, Any]) -> None:
    """Keep the files that an earlier export of the same weights wrote in another format."""
    try:
        earlier = open_model(out)
    except TokdError:
        return
    if earlier.record.get("trained", {}).get("weights") != record["trained"]["weights"]:
        return
    if earlier.record.get("temperature") != record.get("temperature"):
        return
    for kind, file in earlier.files.items():
        if kind not in record["files"] and (out / FILES[kind]).is_file():
            record["files"][kind] = file
    if "web" not in record and (out / FOLDER / "index.html").is_file():
        record |= {key: earlier.record[key] for key in ("web",) if key in earlier.record}


def _refuse_folder(out: Path) -> None:
    ours = {RECORD, CARD, DETECTOR, *REFERENCE, *EXAMPLES, *FILES.values(), FOLDER}
    if out.exists() and not out.is_dir():
        raise TokdError(f"--out {out} is a file: give a folder")
    inside = {path.name for path in out.iterdir()} - ours if out.is_dir() else set()
    if (out / FOLDER).is_dir():
        inside |= {path.name for path in (out / FOLDER).iterdir()} - page_names()
    if inside:
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

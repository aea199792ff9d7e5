"""Measurements on a run's data for an audit: facts of files, without their pictures."""

import hashlib
import io
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, JpegImagePlugin

from tokd_lightning.audit.measured import FILES, FOLDER, MEASURED, PER_VIDEO, PROBE, test_key
from tokd_lightning.audit.probe import build_probe, fit_probe
from tokd_lightning.audit.stored import Stored, read_stored
from tokd_lightning.data.lmdb_frames import read_value
from tokd_lightning.data.manifest import VIDEO
from tokd_lightning.data.missed import missed_counts
from tokd_lightning.data.packed import read_record, split_path
from tokd_lightning.data.settings import module_of
from tokd_lightning.errors import TokdError
from tokd_lightning.files import write_json, write_text

_SIDE = 16  # of the difference hash
_THUMBNAIL = 32  # pixels along both sides at which candidates are compared
NEAR_BITS = 8  # of 256, in which the hashes of near copies may differ
NEAR_LEVELS = 5.0  # of 255, in which their thumbnails may differ in the mean
_KEPT = ("path", "dataset", "method", "video", "target", "source", "quality", "label", "split")
_CHROMA = {0: "4:4:4", 1: "4:2:2", 2: "4:2:0"}
_PREPARED = ("side", "crf")  # columns of the manifest that tokd prepare writes
Say = Callable[[str], None]


def measure(
    folder: Path,
    root: Path,
    backbone: str | None = None,
    weights: Path | None = None,
    say: Say = print,
) -> None:
    """Examine two frames of each video of a run's data, and fit a linear probe if asked to.

    What was found is written to ``audit/`` in the run's folder, once all of it is known.

    Args:
        folder: The run's folder.
        root: Where its data are now.
        backbone: Name of the probe's network; None for no probe.
        weights: File of its weights; None downloads timm's.
        say: Function that prints a progress message.

    Raises:
        TokdError: The run was not tested, the data are not those that it was tested on, the network
            or its weights are unavailable, or a file cannot be read or written.
    """
    stored = read_stored(folder)
    own = stored.scored[0]
    if not own.own or "path" not in own.frames:
        raise TokdError(f"{folder} was not tested: tokd test --config {folder / 'fit.yaml'}")
    if not stored.config:
        raise TokdError(f"{folder} has no fit.yaml, which says how its data are read")
    if not root.exists():
        raise TokdError(f"--data {root} does not exist")
    data = module_of(stored.config, root)
    manifest = data.scan(data.quality).manifest  # unchecked: what is wrong is to be found
    _refuse_other_data(stored, manifest, root)
    network = None if backbone is None else build_probe(backbone, weights, data.input_size)
    rows = sampled(manifest)
    say(f"{stored.name}: {len(rows)} frames of {root}")
    place = Path(data.root)
    with ThreadPoolExecutor(8) as threads:
        facts = pd.DataFrame([*threads.map(partial(examine, place), rows["path"])])
    files = pd.concat([rows.reset_index(drop=True), facts], axis=1)
    trees = tuple(dict.fromkeys(("", *data.folders)))
    prepared = pd.concat([_prepared(place, tree) for tree in trees]).drop_duplicates("path")
    files = files.merge(prepared, on="path", how="left")
    broken = int((files["width"] == 0).sum())
    about: dict[str, Any] = {
        "test": test_key(own.frames), "per_video": PER_VIDEO, "unreadable": broken,
        "no_face": missed_counts(*(place / tree for tree in trees)),
        "near_copies": near_copies(place, files),
    }  # fmt: skip
    if broken:
        say(f"{broken} frames could not be read and were left out")
    scores = None
    if network is not None and backbone is not None:
        say(f"linear probe of {backbone}")
        scores, about["probe"] = fit_probe(data, backbone, network)
    target = folder / FOLDER
    for old in (MEASURED, PROBE):  # measured.json, which is written last, marks a whole one
        (target / old).unlink(missing_ok=True)
    kept = files[files["width"] > 0].drop(columns="look")
    write_text(target / FILES, kept.to_csv(index=False))
    if scores is not None:
        write_text(target / PROBE, scores.to_csv(index=False))
    write_json(target / MEASURED, about)


def sampled(manifest: pd.DataFrame) -> pd.DataFrame:
    """Return the first and the middle frame of each video."""
    groups = manifest.groupby([*VIDEO, "split"], sort=False)
    size, number = groups["path"].transform("size"), groups.cumcount()
    return manifest.loc[(number == 0) | (number == size // 2), list(_KEPT)]


def examine(root: Path, path: str) -> dict[str, Any]:
    """Return the facts of one frame.

    Args:
        root: The data's folder.
        path: Path of the manifest, of an image or of a record of a pack.

    Returns:
        ``width`` and ``height`` (0 if it cannot be read), ``bytes`` (0 in a pack), ``encoder``,
        ``digest`` of the content and ``look``, its difference hash (empty if it is flat).
    """
    nothing = {"width": 0, "height": 0, "bytes": 0, "encoder": "", "digest": "", "look": ""}
    packed = split_path(path)[1] is not None
    try:
        image, content = _opened(root, path)
        encoder = "pack" if packed else _encoder(image)
        look = difference_hash(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError):
        return nothing
    digest = hashlib.sha256(content).hexdigest()[:32]
    width, height = image.size
    facts = {"width": width, "height": height, "bytes": 0 if packed else len(content)}
    return facts | {"encoder": encoder, "digest": digest, "look": look}


def _encoder(image: Image.Image) -> str:
    """Return what an image's header reveals about its encoder: ``JPEG 4:2:0, tables 1a2b3c``."""
    if image.format != "JPEG":
        return f"{image.format} {image.mode}"
    tables = sorted(getattr(image, "quantization", {}).items())
    digest = hashlib.sha256(repr(tables).encode()).hexdigest()[:6]
    chroma = _CHROMA.get(JpegImagePlugin.get_sampling(image), "grey")
    kind = " progressive" if image.info.get("progressive") else ""
    return f"JPEG{kind} {chroma}, tables {digest}"


def difference_hash(image: Image.Image) -> str:
    """Hash the look of an image: which of neighbours in 16 rows of 17 grey pixels is brighter.

    Returns:
        256 bits as 64 hexadecimal digits; empty if most neighbours are equal.
    """
    grey = np.asarray(image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX), int)
    step = np.diff(grey, axis=1)
    if (step == 0).mean() > 0.5:
        return ""
    return np.packbits(step > 0).tobytes().hex()


def near_copies(root: Path, files: pd.DataFrame) -> list[tuple[str, str]]:
    """Find frames of training and test that look the same, whatever their size and encoder.

    Candidates are frames whose difference hashes differ in at most :data:`NEAR_BITS`; of a pair,
    the mean absolute difference of their thumbnails must be at most :data:`NEAR_LEVELS` too.

    Args:
        root: The data's folder.
        files: Facts of frames.

    Returns:
        Paths of one frame of each pair of videos.
    """
    train, test = (
        files[(files["look"].str.len() == 64) & (files["split"] == split)]
        for split in ("train", "test")
    )
    if train.empty or test.empty:
        return []
    bits = [
        np.frombuffer(bytes.fromhex("".join(table["look"])), np.uint64).reshape(len(table), 4)
        for table in (train, test)
    ]
    seen = lru_cache(4096)(partial(_thumbnail, root))
    found: dict[tuple[Any, ...], tuple[str, str]] = {}
    for number, row in enumerate(bits[1]):
        apart = np.bitwise_count(bits[0] ^ row).sum(1)
        for near in np.flatnonzero(apart <= NEAR_BITS):
            pair = train.iloc[int(near)], test.iloc[number]
            key = tuple(one[column] for one in pair for column in VIDEO)
            paths = pair[0]["path"], pair[1]["path"]
            if key not in found and np.abs(seen(paths[0]) - seen(paths[1])).mean() <= NEAR_LEVELS:
                found[key] = paths
    return list(found.values())


def _thumbnail(root: Path, path: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    image, _ = _opened(root, path)
    small = image.convert("RGB").resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.BOX)
    return np.asarray(small, np.float64)


def _opened(root: Path, path: str) -> tuple[Image.Image, bytes]:
    """Return an image or a record of a pack, and its content."""
    file, record = split_path(path)
    if not isinstance(record, int):
        content = (root / file).read_bytes() if record is None else read_value(root / file, record)
        return Image.open(io.BytesIO(content)), content
    pixels = read_record(root / file, record)
    return Image.fromarray(pixels.transpose(1, 2, 0)), pixels.tobytes()


def _refuse_other_data(stored: Stored, manifest: pd.DataFrame, root: Path) -> None:
    tested = set(stored.scored[0].frames["path"])
    missing = tested - set(manifest.loc[manifest["split"] == "test", "path"])
    if missing:
        raise TokdError(
            f"--data {root} is not what {stored.name} was tested on: {len(missing)} of "
            f"{len(tested)} test frames are not there, such as {min(missing)}"
        )


def _prepared(root: Path, tree: str) -> pd.DataFrame:
    """Return what ``tokd prepare`` wrote about each frame's crop and video in a folder of it."""
    file = root / tree / "manifest.csv"
    nothing = pd.DataFrame({"path": []}, dtype=str)
    if not file.is_file():
        return nothing
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:
        raise TokdError(f"{file} cannot be read: {error}") from error
    if "path" not in table:
        return nothing
    return table[["path", *_columns(table)]].assign(path=tree + table["path"])


def _columns(table: pd.DataFrame) -> Iterator[str]:
    return (name for name in _PREPARED if name in table)

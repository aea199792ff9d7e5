"""Videos in a JSON of DeepfakeBench, each with its position in the file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import normpath
from typing import Any, NamedTuple

from tokd_lightning.data.layouts.listed import SPLIT_NAMES, shown, stray_character, with_slashes
from tokd_lightning.data.layouts.numbering import numeric_order
from tokd_lightning.data.layouts.video_folder import SUFFIXES
from tokd_lightning.errors import TokdError, reason

# DeepfakeBench's label -> data set and method in the manifest.
_LABELS = {
    "FF-real": ("ffpp", "real"),
    "FF-DF": ("ffpp", "Deepfakes"),
    "FF-F2F": ("ffpp", "Face2Face"),
    "FF-FS": ("ffpp", "FaceSwap"),
    "FF-NT": ("ffpp", "NeuralTextures"),
    "FF-FH": ("ffpp", "FaceShifter"),
    "FF-SH": ("ffpp", "FaceShifter"),
    "DFD_real": ("dfd", "real"),
    "DFD_fake": ("dfd", "DeepFakeDetection"),
    "CelebDFv1_real": ("celebdf", "real"),
    "CelebDFv2_real": ("celebdf", "real"),
    "CelebDFv3_real": ("celebdf", "real"),
    "CelebDFv1_fake": ("celebdf", "Celeb-synthesis"),
    "CelebDFv2_fake": ("celebdf", "Celeb-synthesis"),
    "CelebDFv3_fake": ("celebdf", "Celeb-synthesis"),
}
_SORTED_BY_METHOD = "CelebDFv3_fake"
# Any other label must contain the word real or fake: DFDCP_FakeA, UADFV_Real, simswap_fake.
_KIND = re.compile("(?:.*[^a-z])?(real|fake)(?:[a-z]?|[^a-z].*)", re.IGNORECASE)


class JsonVideo(NamedTuple):
    """Video as listed in the file.

    Attributes:
        file: The JSON.
        where: Keys that lead to it.
        dataset: Name of the data set in the manifest.
        method: Name of the method in the manifest.
        name: The video's name.
        quality: Compression; empty where the file does not say.
        split: ``train``, ``val`` or ``test``.
        content: Its label and its frames.
    """

    file: Path
    where: tuple[str, ...]
    dataset: str
    method: str
    name: str
    quality: str
    split: str
    content: dict[str, Any]

    def frames(self) -> list[str]:
        """Return the paths of its images in temporal order.

        Returns:
            Paths with forward slashes and without a leading ``/`` or ``../``; files without an
            image suffix, which the authors' script lists as well, are left out.

        Raises:
            TokdError: The entry has no list of paths.
        """
        frames = self.content["frames"]
        if not isinstance(frames, list):
            raise self.wrong(f"has {shown(frames)} where a list of frames should be")
        paths: list[tuple[str, str]] = []
        for frame in frames:
            if not isinstance(frame, str) or stray_character(frame):
                raise self.wrong(f"has {shown(frame)} where a path should be")
            path = normpath(with_slashes(frame)).lstrip("/")
            while path.startswith("../"):
                path = path[3:]
            name = path.rpartition("/")[2]
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                paths.append((name, path))
        return [path for _, path in sorted(paths, key=lambda pair: (numeric_order(pair[0]), pair))]

    def check_label(self) -> None:
        """Check that the video's own label, if it has one, agrees with that of its group.

        Raises:
            TokdError: It does not, or is not a label.
        """
        label = self.content.get("label")
        if label is not None:
            if not isinstance(label, str):
                raise self.wrong(f"has the label {shown(label)}")
            if (meaning(label, "", self.file)[1] == "real") != (self.method == "real"):
                raise self.wrong(f"is labelled {shown(label)}")

    def wrong(self, message: str) -> TokdError:
        """Return an error about this video."""
        return TokdError(f"{self.file}: {_written(self.where)} {message}")


def meaning(label: str, dataset: str, file: Path) -> tuple[str, str]:
    """Translate a label.

    Args:
        label: DeepfakeBench's label, such as ``FF-F2F`` or ``UADFV_Fake``.
        dataset: Name of the data set in the file.
        file: The file named in the error message.

    Returns:
        Data set and method.

    Raises:
        TokdError: The label contains neither real nor fake.
    """
    if label in _LABELS:
        return _LABELS[label]
    kind = _KIND.fullmatch(label)
    if kind is None:
        raise TokdError(f"{file}: the label {shown(label)} says neither real nor fake: rename it")
    return dataset, "real" if kind[1].lower() == "real" else label


def read_entries(file: Path) -> Iterator[JsonVideo]:
    """Yield every video of every data set, label, split and compression.

    Raises:
        TokdError: The file cannot be read, or does not have DeepfakeBench's structure.
    """
    for dataset, labels in _inside(file, _read(file)):
        for label, splits in _inside(file, labels, dataset):
            about = meaning(label, dataset, file)
            for name, videos in _inside(file, splits, dataset, label):
                where = (dataset, label, name)
                if name not in SPLIT_NAMES:
                    raise TokdError(
                        f"{file}: {_written(where)} stands where a split (train, val, test) should"
                    )
                for level, video, content, place in _videos(file, videos, where):
                    # Celeb-DF++ (version 3) has the method where FF++ has the compression.
                    method = level if level and label == _SORTED_BY_METHOD else about[1]
                    quality = "" if label == _SORTED_BY_METHOD else level
                    names = (about[0], method, video, quality, SPLIT_NAMES[name])
                    yield JsonVideo(file, place, *names, content)


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_bytes())
    except OSError as error:
        raise TokdError(f"cannot read {file}: {reason(error)}") from error
    except (ValueError, RecursionError) as error:
        raise TokdError(f"{file} is not a readable JSON file: {error}") from error


def _videos(
    file: Path, node: Any, where: tuple[str, ...]
) -> Iterator[tuple[str, str, dict[str, Any], tuple[str, ...]]]:
    """Yield the videos of a split, whether or not they are grouped by compression."""
    if isinstance(node, dict) and isinstance(node.get("frames"), list):
        # For DFDC the authors' script writes one video instead of many: its folder is its name.
        first = next((frame for frame in node["frames"] if isinstance(frame, str)), "")
        name = with_slashes(first).rpartition("/")[0].rpartition("/")[2]
        if not name or stray_character(name):
            raise TokdError(f"{file}: {_written(where)} is one video without a name")
        yield "", name, node, where
        return
    for name, inner in _inside(file, node, *where):
        if isinstance(inner, dict) and "frames" in inner:
            yield "", name, inner, (*where, name)
            continue
        for video, content in _inside(file, inner, *where, name):
            place = (*where, name, video)
            if not (isinstance(content, dict) and "frames" in content):
                raise TokdError(f"{file}: {_written(place)} is not a video with its frames")
            yield name, video, content, place


def _inside(file: Path, node: Any, *where: str) -> Iterator[tuple[str, Any]]:
    """Yield the items of an object; check that its keys can be names in the manifest."""
    place = _written(where) if where else "all of it"
    if not isinstance(node, dict):
        raise TokdError(f"{file}: {place} is {shown(node)} where an object should be")
    for name, inner in node.items():
        if not name or stray_character(name):
            raise TokdError(f"{file}: {place} has the unusable key {shown(name)}")
        yield name, inner


def _written(where: tuple[str, ...]) -> str:
    return shown("/".join(where))

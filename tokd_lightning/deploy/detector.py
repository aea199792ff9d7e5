"""Scoring of pictures and videos from Python, and what ``tokd detect`` is built on."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, overload

import numpy as np
import numpy.typing as npt
from PIL import Image

from tokd_lightning.data.qualities import claimed_crf
from tokd_lightning.deploy.compression import worth
from tokd_lightning.deploy.engine import Backend, Engine, Floats
from tokd_lightning.deploy.found import Faces, Look, Picture, ReadOptions
from tokd_lightning.deploy.record import Model, open_model
from tokd_lightning.deploy.report import FrameScore, Verdict
from tokd_lightning.deploy.workers import read_all
from tokd_lightning.errors import TokdError

Given = str | os.PathLike[str] | Image.Image | npt.NDArray[np.uint8]
"""A file, an image of Pillow, or RGB ``(H, W, 3)`` or grey ``(H, W)`` in uint8."""
Which = Literal["largest", "all"]


class Heatmaps(NamedTuple):
    """Data for annotating a file: its faces and the heatmap of each."""

    looks: Sequence[Look]
    maps: Floats


class Detector:
    """Forgery detector made of an exported student and its preprocessing.

    Args:
        model: The exported student.
        backend: ``onnx``, or ``torch`` for the safetensors.
        detector: Face detector, see :func:`~tokd_lightning.prepare.finders.make_finder`; by
            default the one that cropped the faces of training.
        threshold: P(fake) above which a file is classified as fake; by default the model's.
        faces: Whether to score the largest face of a file or all of them.
        frames: Largest number of frames per video.
        batch_size: Faces per batch.
        threads: Number of threads of the network, and of reading a list; 0 takes one per core.

    Raises:
        TokdError: An option is invalid, or the file of the face detector is missing or changed.
    """

    def __init__(
        self,
        model: Model,
        *,
        backend: Backend = "onnx",
        detector: str | None = None,
        threshold: float | None = None,
        faces: Which = "largest",
        frames: int = 32,
        batch_size: int = 32,
        threads: int = 0,
    ) -> None:
        for name, value, least in (
            ("frames", frames, 1), ("batch-size", batch_size, 1), ("threads", threads, 0)
        ):  # fmt: skip
            if value < least:
                raise TokdError(f"--{name} must be at least {least}, not {value}")
        if threshold is not None and not 0 <= threshold <= 1:
            raise TokdError(f"--threshold must be between 0 and 1, not {threshold}")
        if faces not in get_args(Which):
            raise TokdError(f"--faces {faces}: give largest or all")
        self.model, self.backend, self.batch_size = model, backend, batch_size
        self.threads = threads
        self.thresholds = (
            model.thresholds if threshold is None else dict.fromkeys(("frame", "video"), threshold)
        )
        self.detector = detector or model.face.detector
        # An explicit "none" means that the inputs are crops like the training frames, not scenes.
        whole = detector == "none" and model.face.detector != "none"
        trained = model.record["trained"]
        claimed = claimed_crf(str(trained.get("data", "")).rpartition("-")[2])
        crf = claimed if isinstance(claimed, float) else None
        stored = trained.get("jpeg_quality")
        self.options = ReadOptions(
            frames=frames,
            size=model.size,
            detector=detector or model.detector(),
            margin=model.face.margin,
            show=False,
            stored=None if whole else model.face.stored,
            every=faces == "all",
            crf=crf,
            jpeg=worth(stored if isinstance(stored, int | float) else None, crf),
        )
        self._pool = ThreadPoolExecutor(
            threads or os.cpu_count() or 1
        )  # starts threads when they are needed

    @cached_property
    def engine(self) -> Engine:
        """Network, loaded when it is first needed.

        Raises:
            TokdError: Its file is missing or changed, or the runtime is missing.
        """
        return Engine(self.model, self.backend, self.threads)

    @property
    def warnings(self) -> list[str]:
        """Reasons why the verdicts of this model mean little."""
        return self.model.warnings

    @overload
    def score(self, given: Given) -> Verdict: ...  # type: ignore[overload-overlap]  # str
    @overload
    def score(self, given: Iterable[Given]) -> list[Verdict]: ...
    def score(self, given: Given | Iterable[Given]) -> Verdict | list[Verdict]:
        """Score pictures; a file may be a video too.

        Files are decoded in this process. Score files of strangers with :meth:`score_files`, or
        with ``tokd detect``, which survive a decoder that crashes or hangs.

        Args:
            given: One picture, or several in any mix.

        Returns:
            The verdict on the picture, or the list of those on several. A file that cannot be read,
            or has no face, has no P(fake); ``status`` and ``note`` say why.

        Raises:
            TokdError: An array is not a picture, or the face detector is missing.
        """
        if isinstance(given, str | os.PathLike | Image.Image | np.ndarray):
            return self._score([given])[0]
        return self._score(list(given))

    def score_video(self, path: str | os.PathLike[str]) -> Verdict:
        """Score a video: the mean of its frames, and each of them.

        Args:
            path: The file, decoded in this process.

        Returns:
            The verdict.

        Raises:
            TokdError: The file is an image, or the face detector is missing.
        """
        verdict = self._score([path])[0]
        if verdict.kind == "image":
            raise TokdError(f"{path} is an image, not a video: use score()")
        return verdict

    def _score(self, given: Sequence[Given]) -> list[Verdict]:
        from tokd_lightning.deploy.read import read, read_picture

        pictures = [_picture(one) for one in given]  # an invalid one raises before work begins

        def look(one: Path | Picture) -> Faces:
            if isinstance(one, Path):
                return read(one, self.options)
            return read_picture(one, self.options)

        looks = map(look, pictures) if len(pictures) < 2 else self._pool.map(look, pictures)
        paths = [one if isinstance(one, Path) else None for one in pictures]
        found = list(zip(paths, looks, strict=True))
        return [verdict for verdict, _ in self._verdicts(found)]

    def score_files(
        self,
        files: Sequence[Path],
        *,
        workers: int | None = None,
        time_limit: float = 60.0,
        show: bool = False,
    ) -> Iterator[tuple[Verdict, Heatmaps | None]]:
        """Score untrusted files, each read in a process with limits.

        Args:
            files: Images and videos.
            workers: Number of reading processes; one per core by default.
            time_limit: Seconds per file.
            show: Whether to yield the data for annotation.

        Yields:
            The verdict on a file when it is done, in any order, and its data for annotation.

        Raises:
            TokdError: The face detector is missing, or no process can run.
        """
        wanted = self.options._replace(show=show, time_limit=time_limit)
        count = min(workers or os.cpu_count() or 1, len(files) or 1)
        # Started before the network is loaded, so that a process can be forked.
        reading = read_all(files, wanted, count, time_limit)
        return self._scored(files, reading)

    def _scored(
        self, files: Sequence[Path], reading: Iterator[tuple[int, Faces]]
    ) -> Iterator[tuple[Verdict, Heatmaps | None]]:
        _ = self.engine  # loaded while files are read
        pending: list[tuple[Path | None, Faces]] = []
        faces = 0
        for job, found in reading:
            pending.append((files[job], found))
            faces += len(found.looks)
            if not faces or faces >= self.batch_size:
                yield from self._verdicts(pending)
                pending, faces = [], 0
        yield from self._verdicts(pending)

    def _verdicts(
        self, found: Sequence[tuple[Path | None, Faces]]
    ) -> Iterator[tuple[Verdict, Heatmaps | None]]:
        """Score the faces of files in batches; yield a verdict per file."""
        faces = [look.face for _, one in found for look in one.looks]
        batches = [
            self.engine(np.stack(faces[start : start + self.batch_size]))
            for start in range(0, len(faces), self.batch_size)
        ]
        start = 0
        p_fake = np.concatenate([batch.p_fake for batch in batches] or [np.empty(0)])
        for path, one in found:
            own = slice(start, start + len(one.looks))
            start = own.stop
            scores = [
                FrameScore(look.frame, look.time, float(score), look.box, look.number)
                for look, score in zip(one.looks, p_fake[own], strict=True)
            ]
            threshold = self.thresholds["video" if one.kind == "video" else "frame"]
            verdict = Verdict(
                path, one.kind, one.status, None, threshold, scores, one.note, one.warnings
            )
            if not scores:
                yield verdict, None
                continue
            highest = max(face.p_fake for face in verdict.faces)
            heat = None
            if one.looks[0].shown is not None:
                heat = Heatmaps(one.looks, np.concatenate([b.heat for b in batches])[own])
            yield verdict._replace(p_fake=highest), heat


def load_detector(model: str | os.PathLike[str], **options: Any) -> Detector:
    """Load an exported student to score pictures and videos with it; needs no torch.

    Args:
        model: Folder written by ``tokd export``, or a file in it.
        **options: Arguments of :class:`Detector`: ``backend``, ``detector``, ``threshold``,
            ``faces``, ``frames``, ``batch_size``, ``threads``.

    Returns:
        The detector; a warning is issued where its verdicts mean little.

    Raises:
        TokdError: There is no exported model, an option is invalid, or a package is missing.

    Example:
        >>> detector = load_detector("models/demo")  # doctest: +SKIP
        >>> detector.score("photo.jpg").p_fake  # doctest: +SKIP
        0.03
    """
    detector = Detector(open_model(Path(model)), **options)
    _ = detector.engine  # raises here, not when a picture is scored
    for warning in detector.warnings:
        warnings.warn(f"{detector.model.name}: {warning}", stacklevel=2)
    return detector


def _picture(given: Given) -> Path | Picture:
    """Convert an argument to a path or an RGB picture."""
    if isinstance(given, str | os.PathLike):
        return Path(given)
    if isinstance(given, Image.Image):
        from tokd_lightning.data.image import to_rgb

        return to_rgb(given)
    if isinstance(given, np.ndarray) and given.dtype == np.uint8 and given.size:
        if given.ndim == 2:
            return np.stack([given] * 3, axis=-1)
        if given.ndim == 3 and given.shape[2] == 3:
            return np.ascontiguousarray(given)
    what = f"{given.dtype} {given.shape}" if isinstance(given, np.ndarray) else type(given).__name__
    raise TokdError(
        f"{what} is not a picture: give a path, an image of Pillow, or an array (H, W, 3), RGB, "
        "uint8"
    )

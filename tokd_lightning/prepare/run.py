"""Preparation of a tree: reuse or resume an earlier output, process groups in parallel."""

from __future__ import annotations

import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from tokd_lightning.data.packed import PACK_SUFFIX
from tokd_lightning.data.parallel import in_processes
from tokd_lightning.data.versions import media_versions
from tokd_lightning.errors import TokdError, reason
from tokd_lightning.files import replacing
from tokd_lightning.prepare.finders import fingerprint, make_finder
from tokd_lightning.prepare.group import GroupJob, prepare_group
from tokd_lightning.prepare.options import Encoding, Options
from tokd_lightning.prepare.plan import Layout, identify, make_plan, split_files, stamps
from tokd_lightning.prepare.summary import (
    TRACK,
    Outcome,
    count_crfs,
    count_missed,
    manifest_text,
    problems_text,
    subset_lines,
    summary_table,
)
from tokd_lightning.terminal import keep_words

# Incremented whenever the same options give different pictures.
_RECIPE = 2
_RECORD = "prepare.json"
_GROUPS = "groups.json"
DETECTOR = "detector.onnx"
"""A copy of the YuNet file that found the faces."""
_PARTS = ".parts"


def prepare(
    layout: Layout,
    root: Path,
    out: Path,
    *,
    frames: int = 32,
    size: int = 299,
    margin: float = 1.3,
    detector: str = "haar",
    quality: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
    splits: Path | None = None,
    encoding: Encoding = "jpeg",
    jpeg_quality: int = 95,
    pack: bool = False,
    workers: int | None = None,
    reencode: int | None = None,
    subset: bool = False,
    masks: bool = False,
    clips: int = 1,
) -> int:
    """Cut faces out of the videos of a data set (paper, Sec. 5.1: 32 frames, 299 pixels).

    The output mirrors the input tree. Equal options give equal bytes, whatever the number of
    workers and of interruptions. An output finished with the same options is left unchanged, an
    interrupted one is completed; videos that were missing or have changed are prepared again.

    Args:
        layout: Layout of the tree: ``ffpp``, ``celebdf``, or ``folder`` for the flat one.
        root: The tree.
        out: Folder to fill; new, empty, or holding an earlier output of the same options.
        frames: Evenly spaced frames per video.
        size: Side of the crops in pixels.
        margin: Side of the crop in units of the face box's side.
        detector: ``haar``, ``mtcnn``, ``none``, or the path of a YuNet ``.onnx`` or a ``.csv`` of
            boxes, see :class:`~.finders.Listed`.
        quality: Qualities to take; None takes all.
        methods: Manipulations to take; None takes all.
        splits: FF++'s split files or Celeb-DF's test list, if they are elsewhere.
        encoding: ``jpeg`` or ``png``.
        jpeg_quality: 1 to 100.
        pack: Whether to write one file of raw pixels per video instead of a folder of images.
        workers: Number of processes; default one per core.
        reencode: CRF of a re-encoded copy of every video, made from its best quality.
        subset: Whether to take only the existing videos and trim the split files to them.
        masks: Whether to cut the mask videos of FF++ by the frames and crops of the fakes, to
            ``manipulated_sequences/<method>/masks/faces/<video>/<frame>.png``.
        clips: Frames are taken as evenly spaced clips of so many consecutive frames, for
            ``--data.clip``.

    Returns:
        The command's exit code: 0, or 1 if no video gave a frame.

    Raises:
        TokdError: Options are invalid, the tree is not as described, the folder holds something
            else, or the output cannot be written.
    """
    options = Options(frames, size, margin, encoding, jpeg_quality, pack, reencode, masks, clips)
    if masks and layout != "ffpp":
        raise TokdError(f"--masks cuts the mask videos of FF++; the layout {layout} has none")
    if workers is not None and workers < 1:
        raise TokdError(f"--workers {workers} must be at least 1")
    plan = make_plan(layout, root, quality, methods, splits, reencode, subset)
    groups = {identify(group): group for group in plan.groups}
    record = {"recipe": _RECIPE, "layout": layout} | options.record
    record |= {"detector": fingerprint(detector)}
    record |= {"quality": plan.qualities, "videos": len(plan.versions)}
    record["track"] = TRACK
    if plan.subset is not None:
        record["subset"] = plan.subset.lines
    record["tree"] = hashlib.sha256("".join(sorted(groups)).encode()).hexdigest()[:24]
    finished, makers = _finished_before(out, record)
    parts = out / _PARTS
    jobs = [
        GroupJob(group, root, out, parts / f"{name}.json", detector, options)
        for name, group in groups.items()
    ]
    known = _known(out, jobs)
    waiting = [job for job in jobs if job.part.stem not in known]
    others = [each for each in makers if each != media_versions()]
    if finished and not waiting:
        shutil.rmtree(parts, ignore_errors=True)
        print(f"{out}: prepared earlier with the same options, reused{_made_by(others)}")
        return _exit_code(out)
    if others:
        print(f"{out}: what is there already stays{_made_by(others)}")
    makers = [*others, media_versions()]
    if finished:
        print(f"{out}: videos of {len(waiting)} groups have changed or come since: done again")
    make_finder(detector)
    try:
        parts.mkdir(parents=True, exist_ok=True)
        _put(out, _RECORD, _as_json(record | {"versions": makers, "finished": False}))
        _work(waiting, len(plan.versions), workers)
        known |= {job.part.stem: _read(job.part) for job in waiting}
        outcome = _gather(known.values())
        made = {"crf": count_crfs(plan, outcome), "versions": makers}
        made |= {"no_face": count_missed(plan, outcome)}
        for name, file in split_files(layout, root, splits).items():
            _put(out, name, file.read_bytes())
        for name, text in (plan.subset.files if plan.subset else {}).items():
            _put(out, name, text.encode())
        if Path(detector).suffix.lower() == ".onnx":  # copied for models trained on these frames
            _put(out, DETECTOR, Path(detector).read_bytes())
        manifest = manifest_text(plan, outcome, options, record["detector"])
        _put(out, "manifest.csv", manifest.encode())
        _put(out, "problems.csv", problems_text(plan, outcome).encode())
        _put(out, _GROUPS, json.dumps(known, sort_keys=True).encode())
        _put(out, _RECORD, _as_json(record | made | {"finished": True}))
        shutil.rmtree(parts, ignore_errors=True)
    except OSError as error:
        raise TokdError(f"{out} cannot be written: {reason(error)}") from error
    console = Console()
    summary = summary_table(plan, outcome, str(out / "problems.csv"))
    console.print(keep_words(summary, console))
    for line in subset_lines(plan, outcome):
        print(line)
    return _exit_code(out)


def _finished_before(out: Path, record: dict[str, Any]) -> tuple[bool, list[dict[str, str]]]:
    """Return whether this output is complete, and the library versions that made it so far.

    An output from before versions were recorded has none.

    Raises:
        TokdError: The folder holds anything else.
    """
    if not out.exists() or (out.is_dir() and not any(p.name != _PARTS for p in out.iterdir())):
        return False, []
    try:
        earlier = json.loads((out / _RECORD).read_text(encoding="utf-8"))
        finished = earlier.pop("finished")
        makers = list(earlier.pop("versions", []))
        for key in ("crf", "no_face"):
            earlier.pop(key, None)
    except (OSError, ValueError, AttributeError, KeyError, TypeError):
        message = f"{out} exists and was not made by `tokd prepare`: choose another --out"
        raise TokdError(message) from None
    if earlier != record and earlier.get("recipe") != record["recipe"]:
        message = f"{out} was prepared by another version, which follows faces otherwise"
        raise TokdError(f"{message}: choose another --out, or delete it")
    if earlier != record:
        keys = dict.fromkeys((*record, *earlier))
        differing = [key for key in keys if earlier.get(key) != record.get(key)]
        message = f"{out} was prepared with another {', '.join(differing)}"
        raise TokdError(f"{message}: choose another --out, or delete it")
    return bool(finished), makers


def _made_by(others: Sequence[dict[str, str]]) -> str:
    """Return a message about other library versions that made the output; pixels may differ."""
    if not others:
        return ""
    now = media_versions()
    differing = {
        name: ", ".join(dict.fromkeys(str(each.get(name, "none")) for each in others))
        for name in dict.fromkeys(key for each in (*others, now) for key in each)
        if any(each.get(name) != now.get(name) for each in others)
    }
    said = ", ".join(f"{k} {before} (now {now.get(k, 'none')})" for k, before in differing.items())
    return f"; it was made by {said}: prepare it again into a new --out if pixels must be alike"


def _exit_code(out: Path) -> int:
    """Return 0 if the manifest has a frame, else 1."""
    with (out / "manifest.csv").open(encoding="utf-8") as lines:
        return 0 if len(list(itertools.islice(lines, 2))) == 2 else 1


def _work(jobs: list[GroupJob], videos: int, workers: int | None) -> None:
    remaining = sum(len(clip) for job in jobs for clip in job.group)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), _Rate())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn()) as progress:
        task = progress.add_task("preparing videos", total=videos, completed=videos - remaining)
        for done in in_processes(prepare_group, jobs, workers):
            progress.advance(task, done)


class _Rate(ProgressColumn):
    """Videos per second of this run."""

    def render(self, task: Task) -> Text:
        """Render the rate."""
        speed = task.finished_speed or task.speed
        return Text("– videos/s" if speed is None else f"{speed:.1f} videos/s")


def _known(out: Path, jobs: list[GroupJob]) -> dict[str, dict[str, Any]]:
    """Return the finished groups whose output exists and whose videos have not changed since."""
    try:
        earlier = dict(json.loads((out / _GROUPS).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        earlier = {}
    known = {}
    for job in jobs:
        name = job.part.stem
        part = _read(job.part) if job.part.exists() else earlier.get(name)
        whole = part is not None and all(_is_there(out, place, job) for place in part["rows"])
        if part is not None and whole and part["files"] == stamps(job.group, job.root):
            known[name] = part
    return known


def _is_there(out: Path, place: str, job: GroupJob) -> bool:
    return (out / f"{place}{PACK_SUFFIX}").is_file() if job.options.pack else (out / place).is_dir()


def _read(part: Path) -> dict[str, Any]:
    return dict(json.loads(part.read_text(encoding="utf-8")))


def _gather(parts: Iterable[dict[str, Any]]) -> Outcome:
    """Merge the records of all groups."""
    outcome = Outcome({}, {}, {})
    for part in parts:
        outcome.rows.update(part["rows"])
        outcome.crfs.update(part.get("crf", {}))
        for place, kind, detail in part["problems"]:
            outcome.problems.setdefault(place, []).append((kind, detail))
    return outcome


def _put(out: Path, name: str, content: bytes) -> None:
    """Write a file atomically; the draft is in the parts folder, which is removed at the end."""
    with replacing(out / name, out / _PARTS / "draft") as draft:
        draft.write_bytes(content)


def _as_json(record: dict[str, Any]) -> bytes:
    return (json.dumps(record, indent=2, ensure_ascii=False) + "\n").encode()

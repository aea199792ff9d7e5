"""Checkpoint reading: header, teacher, weights hash."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher
from tokd_lightning.models.detectors import Detector, DetectorTeacher
from tokd_lightning.models.rebuild import rebuild
from tokd_lightning.modules.partial import HEADER, restored, weights_hash
from tokd_lightning.runs.recipe import recipes

# An experiment that needs a teacher names the teacher's experiment in its header.
_FIRST = re.compile(r"^# First: +tokd fit --config (\S+).*^    teacher: (\S+)$", re.M | re.S)
_TEACHER = re.compile(r"(\w+)-(\w+)_teacher-(\w+)_s(\d+)(-\w+)?")


class TrainedTeacher(NamedTuple):
    """A teacher loaded from its checkpoint.

    ``projectors`` is the state of G_Tr and G_Tf if they were trained with it, ``header`` the
    checkpoint's header.
    """

    network: DualBranchTeacher | DetectorTeacher
    projectors: dict[str, Tensor] | None
    header: dict[str, Any]


def read_checkpoint(
    path: str | Path, kind: str | None = None, whole: bool = True
) -> dict[str, Any]:
    """Read a checkpoint that this package wrote, with ``weights_only=True``.

    If it holds only what was trained (``tune``), the rest of the network is restored, and adapters
    are added to the weights: its state dict is that of the whole network in every case.

    Args:
        path: A ``.ckpt`` file.
        kind: The required kind: ``teacher`` (which a detector may be), ``student`` or ``detector``;
            None accepts any.
        whole: Whether to restore the rest of the network; not needed to read the header.

    Raises:
        TokdError: The file is missing, not a checkpoint of this package, or of the other kind, or
            the rest of its network is missing or another one.
    """
    path = Path(path)
    if not path.is_file():
        raise TokdError(f"no checkpoint at {path}: {_how_to_make(path, kind)}")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise TokdError(f"{path} cannot be read as a checkpoint ({reason[:120]})") from error
    header = checkpoint.get(HEADER) if isinstance(checkpoint, dict) else None
    if header is None:
        raise TokdError(f"{path} is not a checkpoint of tokd_lightning: it has no '{HEADER}' entry")
    accepted = (kind, "detector") if kind == "teacher" else (kind,)
    if kind is not None and header["kind"] not in accepted:
        its = header["network"]
        raise TokdError(
            f"{path} holds a {header['kind']} ({its.get('detector') or its['backbone']}), "
            f"but a {kind} is needed here"
        )
    if header["kind"] == "teacher":
        header["network"].setdefault("branches", "both")  # not in early checkpoints
    checkpoint = dict(checkpoint)
    if whole:
        checkpoint["state_dict"] = restored(checkpoint["state_dict"], header, path)
    return checkpoint


def load_teacher(path: str | Path) -> TrainedTeacher:
    """Rebuild a teacher: that of Sec. 3, or a detector as one, from a fit's checkpoint.

    Raises:
        TokdError: As :func:`read_checkpoint`, the weights do not fit the recorded network, or the
            detector has no maps to distil.
    """
    checkpoint = read_checkpoint(path, "teacher")
    header, state = checkpoint[HEADER], checkpoint["state_dict"]
    trained: nn.Module = rebuild(header["network"], header["kind"])
    try:
        trained.load_state_dict(under(state, f"{header['kind']}."))
    except RuntimeError as error:
        raise TokdError(f"the weights in {path} do not fit the network it records") from error
    network = DetectorTeacher(trained) if isinstance(trained, Detector) else trained
    return TrainedTeacher(cast(Any, network), under(state, "projectors.") or None, header)


def check_input(header: dict[str, Any], data: Any) -> None:
    """Check that a teacher was trained with a DataModule's normalisation.

    Raises:
        TokdError: It was trained with another one.
    """
    for key in ("mean", "std"):
        if _channels(header[key]) != _channels(getattr(data, key)):
            raise TokdError(
                f"the teacher was trained on images with {key} {header[key]}, the data module "
                f"gives {key} {getattr(data, key)}: set --data.{key} {header[key]}"
            )


def check_branches(reads: Collection[str], teacher: DualBranchTeacher | DetectorTeacher) -> None:
    """Check that a teacher has all branches that a method reads.

    Args:
        reads: The method's branches.
        teacher: The teacher.

    Raises:
        TokdError: A branch is missing.
    """
    if missing := [branch for branch in reads if branch not in teacher.branches]:
        there = teacher.branches[0]
        raise TokdError(
            f"the method reads the {missing[0]} branch, but this teacher has only {there}: set "
            f"--model.distiller.branches {there}, or train a teacher with --model.branches both"
        )


def state_hash(path: str | Path, kind: str | None = "teacher") -> str:
    """Return the hash of a checkpoint's weights; empty if the file does not exist.

    Args:
        path: The checkpoint.
        kind: As for :func:`read_checkpoint`.
    """
    if not Path(path).is_file():
        return ""
    return weights_hash(read_checkpoint(path, kind)["state_dict"])


def under(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the entries of a state dict that start with ``prefix``, with it removed."""
    return {key.removeprefix(prefix): v for key, v in state.items() if key.startswith(prefix)}


def _channels(value: float | list[float]) -> list[float]:
    """Return three channels: one number and three equal ones are the same normalisation."""
    return list(value) if isinstance(value, list | tuple) else [value] * 3


def _by(path: Path) -> str:
    """Return the command that makes or resumes a teacher, in parentheses; empty if unknown."""
    run = path.parent.parent
    if path.name != "best.ckpt" or path.parent.name != "checkpoints":
        return ""
    if (run / "fit.yaml").is_file():
        return f" (tokd fit {run} resumes it)"
    if not (wanted := _TEACHER.fullmatch(run.name)):
        return ""
    data, quality, branches, seed, settings = wanted.groups()
    for file in sorted((recipes() / "experiments").glob("*.yaml")):
        first = _FIRST.search(file.read_text())
        shipped = first and _TEACHER.fullmatch(Path(first[2]).parent.parent.name)
        if first and shipped and shipped.group(1, 3, 5) == (data, branches, settings):
            options = [f"--data.quality {quality}"] if quality != shipped[2] else []
            options += [f"--seed_everything {seed}"] if seed != shipped[4] else []
            return f" (tokd fit --config {' '.join([first[1], *options])})"
    return ""


def _how_to_make(path: Path, kind: str | None) -> str:
    if kind == "teacher":
        run = path.parent.parent
        found = sorted(map(str, run.parent.glob(f"{run.name}-??????/checkpoints/best.ckpt")))
        if found and path.parent.name == "checkpoints":
            return f"there is a teacher of other settings, --model.teacher {found[0]}"
        return f"train the teacher first{_by(path)} or name another with --model.teacher PATH"
    return (
        "train it first with tokd fit, or, where the fit had other options, name its run: "
        "runs/NAME behind the command"
    )

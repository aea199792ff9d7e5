"""Several data sets in one training, each with its share of every batch and its own splits."""

import inspect
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_type_hints

import pandas as pd
import torch
from jsonargparse import ArgumentError, ArgumentParser
from torch import Tensor

from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.manifest import SPLITS, Scan, check
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.data.synthetic import is_synthetic
from tokd_lightning.data.target import Target, parse_target
from tokd_lightning.errors import TokdError

_KINDS: dict[str, type[FrameDataModule]] = {
    "ffpp": FFPPDataModule,
    "celebdf": CelebDFDataModule,
    "own": ManifestDataModule,
}
_KEYS = ("data", "weight", "take", "options")
_GIVEN = {"self", "root", "name", "quality", "frames", "manifest"}


class Member(NamedTuple):
    """One data set of several.

    Attributes:
        target: Its layout, quality, and its folder or list.
        folder: Its folder relative to the common root, with a slash at its end unless it is that.
        weight: Share of its samples in a training batch, in any unit; None if none has a share.
        take: The splits that are used.
        options: Arguments of its layout's data module, such as ``methods`` or ``val_fraction``.
    """

    target: Target
    folder: str
    weight: float | None
    take: tuple[str, ...]
    options: Mapping[str, Any]

    def module(self, **frames: Any) -> FrameDataModule:
        """Build the data module that reads it alone."""
        listed = {"manifest": self.target.path} if self.target.listed else {}
        given: dict[str, Any] = {"name": self.target.name, "quality": self.target.quality, **listed}
        return _KINDS[self.target.kind](self.target.root(), **given, **self.options, **frames)


class MixedDataModule(FrameDataModule):
    """Frames of several data sets, each indexed, split and checked by its own rules.

    A training batch holds each data set's share of samples, composed by the seed, see
    :class:`~tokd_lightning.data.sampling.TrainingBatches`; ``balance`` holds within each.
    Validation and test are those of all data sets together.

    Args:
        root: Folder that all data sets are in, or linked into.
        sets: The data sets. ``data`` is ``[NAME=]KIND[-QUALITY]:PATH`` as for ``tokd evaluate
            --on``, with a path relative to the root, such as ``ffpp-c23:ffpp``; ``weight`` its
            share of a training batch (all of them or none; without, every frame counts alike);
            ``take`` the splits that are used (``[train, val, test]``); ``options`` arguments of
            its layout's data module, such as ``{methods: [Deepfakes]}`` or ``{val_fraction: 0.2}``.
        name: Name of the mixture in run names.
        quality: Quality in run names; each data set has its own.
        **frames: Arguments of :class:`~tokd_lightning.data.datamodule.FrameDataModule`.

    Raises:
        TokdError: A data set is not described as above, two have the same name, or ``forge`` is
            given.
    """

    def __init__(
        self,
        root: Path,
        sets: list[dict[str, Any]],
        name: str = "mixed",
        quality: str = "mixed",
        **frames: Any,
    ) -> None:
        super().__init__(root, name, quality, **frames)
        if self.annotations.forger is not None:
            raise TokdError("forge reads the landmarks of one data set: train on one, not several")
        if not sets:
            raise TokdError("--data.sets names no data set")
        self.members = [_member(self.root, number, one) for number, one in enumerate(sets, 1)]
        names = [member.target.name for member in self.members]
        if twice := sorted({one for one in names if names.count(one) > 1}):
            raise TokdError(f"--data.sets: two are named {twice[0]}: write NAME=KIND:PATH for one")
        training = [member for member in self.members if "train" in member.take]
        if not training:
            raise TokdError("--data.sets: none is trained on: take train of one")
        weighted = [member for member in training if member.weight is not None]
        if weighted and len(weighted) < len(training):
            raise TokdError("--data.sets: give all data sets that are trained on a weight, or none")
        if weighted and not sum(member.weight or 0 for member in weighted):
            raise TokdError("--data.sets: a weight must be above 0")
        self.weighted = bool(weighted)
        self.members = [*map(_without_idle, self.members)]

    def scan(self, quality: str) -> Scan:
        """Index every data set by its own rules; at another quality, all of them at that."""
        tables: list[pd.DataFrame] = []
        empty: list[str] = []
        dropped: list[str] = []
        notes: list[str] = []
        listed: dict[str, int] = {}
        owner: dict[str, str] = {}
        for member in self.members:
            own, target = quality == self.quality, member.target
            module = member.module(
                frames_per_video=self.frames_per_video, size=self.size, on_error=self.on_error
            )
            found = module.scan(target.quality if own else quality)
            check(found.manifest, found.apart)
            rows = found.manifest[found.manifest["split"].isin(member.take)]
            if not len(rows):
                raise TokdError(f"{target.path} has no frames in {', '.join(member.take)}")
            for dataset in rows["dataset"].unique():
                if owner.setdefault(dataset, target.name) != target.name:
                    raise TokdError(
                        f"--data.sets: {owner[dataset]} and {target.name} both list frames of "
                        f"{dataset}: take it from one of them"
                    )
            tables.append(rows.assign(path=member.folder + rows["path"], set=target.name))
            empty += [member.folder + place for place in found.empty]
            dropped += found.dropped
            notes += [f"{target.name}: {note}" for note in found.notes]
            for split in member.take:
                there = rows[rows["split"] == split].drop_duplicates(["dataset", "method", "video"])
                listed[split] = listed.get(split, 0) + found.listed.get(split, len(there))
        return Scan(
            pd.concat(tables, ignore_index=True), empty, tuple(dropped), (), tuple(notes), listed
        )

    @property
    def folders(self) -> tuple[str, ...]:
        """The folders of the data sets, relative to the root."""
        return tuple(dict.fromkeys(member.folder for member in self.members))

    @property
    def synthetic(self) -> bool:
        """Whether one of the data sets was made by ``tokd demo``."""
        return any(is_synthetic(member.target.root()) for member in self.members)

    def composition(self) -> dict[str, float]:
        """Return each data set's samples in a training batch, on average; empty without weights."""
        if not self.weighted:
            return {}
        weights = {m.target.name: m.weight or 0.0 for m in self.members if "train" in m.take}
        unit = self.batch_size / sum(weights.values())
        return {name: weight * unit for name, weight in weights.items()}

    def _class_numbers(self) -> Tensor:
        """Return the number of (real, fake) samples in a batch, on average."""
        if not self.weighted:
            return super()._class_numbers()
        table = self.table("train")
        fakes = table.groupby("set")["label"].mean()
        numbers = [
            torch.tensor([1 - fakes[name], fakes[name]]) * share
            for name, share in self.composition().items()
            if share
        ]
        return torch.stack(numbers).sum(0)

    def _composed(self) -> dict[str, Any]:
        if not (shares := self.composition()):
            return {}
        place = {name: number for number, name in enumerate(shares)}
        sets = self.table("train")["set"].map(place).to_numpy()
        return {"sets": sets, "weights": [*shares.values()]}

    def _composition_notes(self) -> list[str]:
        shares = ", ".join(f"{value:.4g} of {name}" for name, value in self.composition().items())
        idle = [m.target.name for m in self.members if m.weight == 0 and "train" not in m.take]
        notes = [f"{name} has weight 0 and is not trained on" for name in idle]
        if shares:
            notes.insert(0, f"each batch of {self.batch_size} has {shares}, on average")
        return notes


def _member(root: Path, number: int, given: Mapping[str, Any]) -> Member:
    """Check the description of a data set.

    Raises:
        TokdError: It is not as :class:`MixedDataModule` describes it.
    """
    where = f"--data.sets, number {number}"
    if not isinstance(given, Mapping) or not isinstance(given.get("data"), str):
        raise TokdError(f"{where}: write {{data: KIND-QUALITY:PATH}}, such as ffpp-c23:ffpp")
    if unknown := sorted(given.keys() - {*_KEYS}):
        raise TokdError(f"{where}: no key {unknown[0]!r}; choose from {', '.join(_KEYS)}")
    head, colon, place = given["data"].partition(":")
    try:
        target = parse_target(f"{head}{colon}{root / place if place else ''}")
    except TokdError as error:
        raise TokdError(f"{where}: {str(error).removeprefix('--on ')}") from error
    inside = Path(os.path.relpath(target.root().absolute(), root.absolute()))
    if ".." in inside.parts:
        raise TokdError(f"{where}: {target.path} is not below {root}: link it there")
    weight, take = given.get("weight"), _take(where, given.get("take"))
    if weight is not None and (
        isinstance(weight, bool)
        or not isinstance(weight, int | float)
        or not math.isfinite(weight)
        or weight < 0
    ):
        raise TokdError(f"{where}: weight must be a number from 0 on, not {weight!r}")
    options = given.get("options") or {}
    known = inspect.signature(_KINDS[target.kind]).parameters.keys() - _GIVEN
    if not isinstance(options, Mapping) or (unknown := sorted(options.keys() - known)):
        named = f"no option {unknown[0]!r}" if isinstance(options, Mapping) else "options is a map"
        raise TokdError(f"{where}: {named}; choose from {', '.join(sorted(known))}")
    checked = _checked(where, _KINDS[target.kind], options)
    folder = "" if inside == Path() else f"{inside.as_posix()}/"
    return Member(target, folder, weight, take, checked)


def _checked(
    where: str, module: type[FrameDataModule], options: Mapping[str, Any]
) -> dict[str, Any]:
    """Return options as their types, as for a data module that is alone."""
    hints = get_type_hints(module.__init__)
    found: dict[str, Any] = {}
    for name, value in options.items():
        parser = ArgumentParser(exit_on_error=False)
        parser.add_argument(f"--{name}", type=hints[name])
        try:
            found[name] = parser.parse_object({name: value})[name]
        except (ArgumentError, TypeError, ValueError) as error:
            kind = hints[name].__name__ if isinstance(hints[name], type) else hints[name]
            raise TokdError(f"{where}: option {name} must be {kind}, not {value!r}") from error
    return found


def _without_idle(member: Member) -> Member:
    """Return a data set without the training frames that its weight of 0 never draws.

    Raises:
        TokdError: Nothing of it is left.
    """
    if member.weight != 0 or "train" not in member.take:
        return member
    rest = tuple(split for split in member.take if split != "train")
    if not rest:
        raise TokdError(f"--data.sets: {member.target.name} is taken for training alone, and its "
                        "weight is 0: leave it out")  # fmt: skip
    return member._replace(take=rest)


def _take(where: str, given: Any) -> tuple[str, ...]:
    asked: Sequence[Any] = SPLITS if given is None else [given] if isinstance(given, str) else given
    if not isinstance(asked, list | tuple) or not asked or any(s not in SPLITS for s in asked):
        raise TokdError(f"{where}: take is a list of {', '.join(SPLITS)}, not {given!r}")
    return tuple(asked)

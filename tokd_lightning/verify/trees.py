"""Fault-tolerant listing of Celeb-DF, DFDC and flat trees, which reports what is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

from tokd_lightning.data.layouts.celebdf_tree import (
    NOT_A_VIDEO,
    PARTS,
    SYNTHESIS,
    TEST_LIST,
    describe,
    list_folders,
    name_groups,
    read_test_list,
)
from tokd_lightning.data.layouts.collections import list_collection
from tokd_lightning.data.layouts.dfdc import frames_place, list_dfdc
from tokd_lightning.data.layouts.listed import SPLIT_NAMES, UNKNOWN
from tokd_lightning.data.layouts.video_folder import FOLDERS, SUFFIXES, Video
from tokd_lightning.errors import TokdError
from tokd_lightning.verify.findings import Report
from tokd_lightning.verify.inventory import (
    FILES,
    Clip,
    clip_at,
    places_in,
)
from tokd_lightning.verify.tree import MEDIA, Tree, suffix


def read_celebdf(
    tree: Tree, quality: str | None, splits: Path | None, report: Report
) -> list[Clip]:
    """List a Celeb-DF tree by its published test list: all other videos are ``train``.

    Both splits share people, so identities are not checked. A validation split that a manifest in
    the tree holds out of training is checked with that manifest.
    """
    testing: set[tuple[str, str]] = set()
    try:
        testing = read_test_list(tree.root, splits)
    except TokdError as error:
        report.add("split-file", TEST_LIST, str(error))
    clips: list[Clip] = []
    for part in PARTS:
        top = next((n for n in tree.folders("") if n.lower() == part.lower()), None)
        if top is None:
            report.add("missing-method", part)
            continue
        inside = partial(_folders_below, tree, top)
        groups = name_groups(tree.folders(top), inside) if part == SYNTHESIS else {}
        tops = {f"{top}/{place}": name for place, name in groups.items()} or {top: part}
        for place, name in tops.items():
            clips += _celebdf_part(tree, place, name, quality, testing, report)
    return clips


def _folders_below(tree: Tree, top: str, name: str) -> list[str]:
    return tree.folders(f"{top}/{name}")


def _celebdf_part(
    tree: Tree,
    top: str,
    part: str,
    quality: str | None,
    testing: Collection[tuple[str, str]],
    report: Report,
) -> Iterator[Clip]:
    """List one part, or one method of Celeb-DF++."""
    for mine, kind, folder in list_folders(tree.folders, top):
        if quality not in (None, mine):
            continue
        there = {
            name: place
            for name, place in places_in(tree, folder, kind, report)
            if not NOT_A_VIDEO.fullmatch(name)
        }
        if not there:
            continue
        ending = ".mp4" if kind == FILES else ""
        absent = sorted(n for p, n in testing if p == part and n not in there)
        report.extend("missing-video", (f"{folder}/{n}{ending}" for n in absent))
        for name, place in there.items():
            split = ("test" if (part, name) in testing else "train") if testing else ""
            yield clip_at(tree, describe(part, name, mine, split, place), kind)


def read_dfdc(tree: Tree, lists: Sequence[Path], quality: str | None, report: Report) -> list[Clip]:
    """List the videos in DFDC's metadata, as files and as frames; report missing ones."""
    clips: list[Clip] = []
    for video in list_dfdc(tree.root, lists, quality or UNKNOWN):
        file = (tree.root / video.place).is_file()
        frames = frames_place(tree.root, video.place)
        if file:
            clips.append(Clip(video, FILES, (video.place,)))
        if frames:
            kind = next((part for part in frames.split("/") if part in FOLDERS), FOLDERS[0])
            clips.append(clip_at(tree, video._replace(place=frames), kind))
        if not (file or frames):
            report.add("missing-video", video.place)
    return clips


def read_collection(tree: Tree, quality: str | None) -> list[Clip]:
    """List a tree of FFIW, as files and as frames, or of WildDeepfake."""
    clips: list[Clip] = []
    for files, kind in ((True, FILES), (False, FOLDERS[1])):
        with suppress(TokdError):  # it may have only one form
            videos = list_collection(tree.root, quality or UNKNOWN, files)
            clips += [clip_at(tree, video, kind) for video in videos]
    return clips


def read_flat(tree: Tree, quality: str | None, report: Report) -> list[Clip]:
    """List a tree ``{train,val,test}/{real,fake/<method>}/<video>``; identities are unknown."""
    clips: list[Clip] = []
    for top in tree.folders(""):
        split = SPLIT_NAMES.get(top.casefold())
        for name in tree.folders(top) if split else ():
            if name.casefold() not in ("real", "fake"):
                continue
            folder = f"{top}/{name}"
            parts = {folder: name.casefold()}
            if name.casefold() == "fake":
                parts |= {
                    f"{folder}/{m}": m for m in tree.folders(folder) if _is_method(tree, folder, m)
                }
            for part, method in parts.items():
                for kind in (FILES, FOLDERS[1]):
                    for video, place in places_in(tree, part, kind, report):
                        if place not in parts:
                            about = (video, "", "", quality or UNKNOWN, split or "", place)
                            clips.append(clip_at(tree, Video("flat", method, *about), kind))
    return clips


def _is_method(tree: Tree, folder: str, name: str) -> bool:
    """Return whether a folder of fakes holds videos rather than the frames of one."""
    place = f"{folder}/{name}"
    suffixes = {suffix(file) for file in tree.files(place)}
    return not suffixes & SUFFIXES and bool(tree.folders(place) or suffixes & MEDIA)

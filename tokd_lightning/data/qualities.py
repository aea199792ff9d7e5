"""Qualities: the names of compressions, their order, and what a name claims about its files."""

from __future__ import annotations

import re
from math import isfinite
from typing import Literal

ORIGINAL = "original"
PATTERN = r"original|raw|c[0-9]+"
"""Names of quality folders: as published, uncompressed, or H.264 at a CRF."""
CRF = float | Literal["lossless"] | None
"""The quality that was set in x264; None if the stream does not record it."""
_CLAIM = re.compile(r"c([0-9]{1,2})")
_LOSSLESS = ("raw", "c0")  # two names of FF++'s uncompressed videos


def names_of(quality: str) -> tuple[str, ...]:
    """Return a quality's name and, for ``raw`` and ``c0``, its other name."""
    return (quality, *(name for name in _LOSSLESS if quality in _LOSSLESS and name != quality))


def same_quality(one: str, other: str) -> bool:
    """Return whether two names mean one quality, as ``raw`` and ``c0`` of FF++ do."""
    return one in names_of(other)


def best_first(quality: str) -> tuple[int, int, str]:
    """Return a sort key for qualities: lossless, then by increasing CRF, then others by name."""
    lossless = (ORIGINAL, *_LOSSLESS)
    if quality in lossless:
        return 0, lossless.index(quality), quality
    match = re.fullmatch(r"c(\d+)", quality)
    return (1, int(match[1]), quality) if match else (2, 0, quality)


def claimed_crf(quality: str) -> CRF:
    """Return the CRF that a quality folder's name claims; None if it claims nothing."""
    if quality in _LOSSLESS:
        return "lossless"
    match = _CLAIM.fullmatch(quality)
    return float(match[1]) if match else None


def wrong_crf(quality: str, crf: CRF) -> str:
    """Compare the encoder's own setting with the quality that a folder is named after.

    ``c23`` claims CRF 23, ``c0`` and ``raw`` lossless coding; other names claim nothing.

    Args:
        quality: The folder's name.
        crf: The encoder's setting.

    Returns:
        A text on the contradiction; empty if there is none or the stream does not record the CRF.
    """
    claim = claimed_crf(quality)
    said = "lossless" if crf == 0 else crf
    if claim is None or said is None or said == claim:
        return ""
    return f"encoded {said if isinstance(said, str) else f'at CRF {said:g}'}, not {quality}"


def as_text(crf: CRF) -> str:
    """Format a CRF for a table: ``23``, ``lossless``, or an empty string."""
    return crf or "" if isinstance(crf, str) or crf is None else f"{crf:g}"


def as_crf(text: str) -> CRF:
    """Read what :func:`as_text` wrote; return None for any other text."""
    if text == "lossless":
        return "lossless"
    try:
        crf = float(text)
    except ValueError:
        return None
    return crf if isfinite(crf) else None

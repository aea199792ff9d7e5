"""What the name of a quality folder claims, and what the encoder of a file says to it."""

from __future__ import annotations

import re
from typing import Literal

CRF = float | Literal["lossless"] | None
"""The quality that x264 was asked for; None where the stream does not tell."""
_CLAIM = re.compile(r"c([0-9]{1,2})")
_LOSSLESS = ("raw", "c0")


def claimed_crf(quality: str) -> CRF:
    """Return what a quality folder's name says of its files; None where it says nothing."""
    if quality in _LOSSLESS:
        return "lossless"
    match = _CLAIM.fullmatch(quality)
    return float(match[1]) if match else None


def wrong_crf(quality: str, crf: CRF) -> str:
    """Hold the encoder's own setting against the quality that a folder is named after.

    ``c23`` claims CRF 23, ``c0`` and ``raw`` lossless coding; other names claim nothing.

    Args:
        quality: The folder's name.
        crf: What the encoder says.

    Returns:
        What contradicts the name; empty where nothing does or the stream does not tell.
    """
    claim = claimed_crf(quality)
    said = "lossless" if crf == 0 else crf
    if claim is None or said is None or said == claim:
        return ""
    return f"encoded {said if isinstance(said, str) else f'at CRF {said:g}'}, not {quality}"


def as_text(crf: CRF) -> str:
    """Write a CRF into a table: ``23``, ``lossless``, or nothing."""
    return crf or "" if isinstance(crf, str) or crf is None else f"{crf:g}"


def as_crf(text: str) -> CRF:
    """Read what :func:`as_text` wrote; anything else says nothing."""
    if text == "lossless":
        return "lossless"
    try:
        return float(text)
    except ValueError:
        return None

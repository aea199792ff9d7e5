"""Common style and file output of the figures of an explanation."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from tokd_lightning.files import write_bytes

WRONG = "#C0392B"
_FORMATS: Mapping[str, Mapping[str, Any]] = {
    "png": {"dpi": 150},
    "pdf": {"dpi": 300, "metadata": {"CreationDate": None}},  # equal figures give equal files
}
_LETTERS = 24


def save(figure: Figure, path: Path) -> list[str]:
    """Write a figure as PNG for screens and PDF for papers.

    Args:
        figure: The figure.
        path: Path without suffix.

    Returns:
        The files' names.

    Raises:
        TokdError: A file cannot be written.
    """
    names = []
    with matplotlib.rc_context({"pdf.fonttype": 42}):  # embed TrueType fonts, not outlines
        for suffix, options in _FORMATS.items():
            page = io.BytesIO()
            figure.savefig(page, format=suffix, **options)
            write_bytes(path.with_name(f"{path.name}.{suffix}"), page.getvalue())
            names.append(f"{path.name}.{suffix}")
            figure.set_layout_engine("none")  # already laid out; a second layout is slow
    return names


def tidy(axes: Axes) -> None:
    """Hide the top and right spines and draw a faint grid."""
    axes.grid(color="0.82", linewidth=0.4)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def short(text: str) -> str:
    """Shorten a text to fit next to a picture, and escape dollar signs for mathtext."""
    cut = text if len(text) <= _LETTERS else f"{text[: _LETTERS - 9]}…{text[-8:]}"
    return cut.replace("$", r"\$")


def view(name: str) -> str:
    """Return the paper's symbol of a branch, or the name itself."""
    return {"rgb": "$x$", "frequency": "$x^F$"}.get(name, name)

"""Table of all detectors: ``tokd detectors``."""

from typing import Any, Literal

from rich.console import Console
from rich.table import Table

from tokd_lightning.models.complexity import complexity
from tokd_lightning.models.detectors import DETECTORS, Detector, build_detector
from tokd_lightning.models.probe import activation_bytes
from tokd_lightning.terminal import keep_words

_COLUMNS: dict[str, Literal["left", "right"]] = {
    **{"detector": "left", "source": "left", "px": "right", "params\n(M)": "right"},
    **{"published": "right", "GMACs": "right", "MiB per\nimage": "right"},
    **{"needs": "left"},
}


def print_detectors(size: int | None = None) -> None:
    """Print a table of all detectors, each at the side of its publication.

    What a publication leaves open is listed below the table.

    Args:
        size: Side of the images in pixels for all of them; None takes each one's own.

    Raises:
        TokdError: A detector does not take images of this side.
    """
    table = Table(title="detectors of Tables 2 and 7, at fp32")
    for name, justify in _COLUMNS.items():
        table.add_column(name, justify=justify, no_wrap=name != "source")
    for kind in DETECTORS.values():
        table.add_row(*_row(kind, size))
    console = Console()
    console.print(keep_words(table, console))
    console.print("left open by the publication, and chosen here:")
    for kind in DETECTORS.values():
        console.print(f"- {kind.name}: {kind.unsettled}", markup=False, highlight=False)


def _row(kind: type[Detector], size: int | None) -> list[str]:
    spec: dict[str, Any] = {"detector": kind.name, "pretrained": False}
    detector = build_detector(spec)
    if size is not None and "size" in detector.spec:
        detector = build_detector({**spec, "size": size})
    side = detector.size if size is None else size
    detector.check_size(side)
    counts = complexity(detector, side)
    return [
        kind.name,
        kind.citation,
        str(side),
        f"{counts.parameters / 1e6:.2f}",
        "–" if kind.published is None else f"{kind.published:g}",
        f"{counts.macs / 1e9:.2f}",
        f"{activation_bytes(detector, side) / 2**20:.0f}",
        ", ".join(sorted(kind.needs)) or "–",
    ]

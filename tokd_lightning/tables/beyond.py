"""Table beyond the paper: does rotation reverse "both < rgb" for other methods, with controls."""

from tokd_lightning.tables.entries import ACC, HEADS, Entry, PaperTable
from tokd_lightning.tables.grid import DEMO, METHODS, STUDENTS, student

_BEYOND: dict[str, tuple[str, dict[str, object]]] = {
    "FitNet, rotation": ("fitnet", {"rotation": "learned"}),
    "FitNet, random rotation": ("fitnet", {"rotation": "frozen_random"}),
    "FitNet, PCGrad": ("fitnet", {"conflict": "pcgrad"}),
    "VID, rotation": ("vid", {"rotation": "learned"}),
    "VID, random rotation": ("vid", {"rotation": "frozen_random"}),
    "VID, PCGrad": ("vid", {"conflict": "pcgrad"}),
    "TOKD, no rotation": ("tokd", {"rotation": "none"}),
    "TOKD, random rotation": ("tokd", {"rotation": "frozen_random"}),
    "TOKD, PCGrad": ("tokd", {"rotation": "none", "conflict": "pcgrad"}),
    "TOKD, frozen projectors": ("tokd", {"teacher_projectors": "frozen"}),
    "TOKD, joint projectors": ("tokd", {"teacher_projectors": "joint"}),
    **{
        f"{METHODS[method]}, mean of branches": (method, {"branch_reduce": "mean"})
        for method in ("at", "pkt", "vid", "sp", "fitnet")
    },
    **{
        f"{METHODS[method]}, last map alone": (method, {"taps": [32]})
        for method in ("at", "vid", "fitnet")
    },
}


def beyond(datasets: tuple[str, ...]) -> PaperTable:
    """Return the table of cells that are not in the paper: every student with both branches."""
    entries = []
    for data in datasets:
        for backbone in STUDENTS if data not in DEMO else ("resnet18_thin",):
            row = f"{HEADS[data]}, {STUDENTS[backbone]}"
            hinton = student(data, backbone, "hinton")
            entries.append(Entry(row, "KD", ACC, None, hinton))
            for column, (method, extra) in _BEYOND.items():
                cell = student(data, backbone, method, "both", **extra)
                entries.append(Entry(row, column, ACC, None, cell))
    title = "Beyond the paper: rotation and its controls, both branches"
    return PaperTable("beyond", title, tuple(entries))

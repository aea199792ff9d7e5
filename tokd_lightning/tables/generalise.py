"""Ablation beyond the paper: four switches against forgeries that a detector was not trained on."""

from collections.abc import Iterable

from tokd_lightning.tables.entries import HEADS, Entry, PaperTable, auc_of, auc_without
from tokd_lightning.tables.grid import GridCell, Option

UNSEEN = "Deepfakes"
"""The forgery that is left out."""
OF, WITHOUT = auc_of(UNSEEN), auc_without(UNSEEN)
SETS = ("ffpp", "demo", "demo-c23")

_PAIRED: Option = ("data.balance", "paired")
_SBI: Option = ("data.forge", "sbi")
_DEGRADE: Option = ("data.degrade", "all")
_LEAVE_OUT: Option = ("data.leave_out", [UNSEEN])
ROWS: dict[str, tuple[Option, ...]] = {
    "none": (),
    "paired": (_PAIRED,),
    "SBI": (_SBI,),
    "degrade": (_DEGRADE,),
    "leave-out": (_LEAVE_OUT,),
    "leave-out, paired": (_LEAVE_OUT, _PAIRED),
    "leave-out, degrade": (_LEAVE_OUT, _DEGRADE),
    "all": (_LEAVE_OUT, _PAIRED, _SBI, _DEGRADE),
}
"""Row -> options of the training data; SBI trains on no fakes of the data set at all."""


def generalise(datasets: Iterable[str]) -> PaperTable:
    """Return the table: ResNet18-T without a teacher, one row per combination of switches.

    Args:
        datasets: Keys of data sets; those without a forgery to leave out have no entries.
    """
    entries = []
    for data in (data for data in datasets if data in SETS):
        for row, options in ROWS.items():
            cell = GridCell(data, "student", "resnet18_thin", "vanilla", "none", options)
            for column, metric in (("others", WITHOUT), (UNSEEN, OF)):
                where = f"{HEADS[data]}, {row}"
                entries.append(Entry(where, f"AUC, {column}", metric, None, cell, interval=True))
    notes = (
        f"{UNSEEN} is unseen in the rows leave-out, SBI and all, and trained on in the others.",
        "Intervals are of the mean over seeds (Student, 95 %): they say nothing about other videos "
        "or forgeries.",
    )
    title = f"Beyond the paper: training data and a forgery left out ({UNSEEN}), ResNet18-T"
    return PaperTable("generalise", title, tuple(entries), notes)

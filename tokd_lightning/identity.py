"""What a result was made from, and in what two results differ.

A result is known by five things, which ``inputs.json`` has from the start of a fit and
``metrics.json`` under ``hashes`` at its end:

- ``config``: the resolved configuration (:mod:`tokd_lightning.naming`), and ``recipe``, what was
  asked for (:mod:`tokd_lightning.recipe`);
- ``data``: the rows as they are used, with a hash of each part under ``rows``
  (:mod:`tokd_lightning.data.rows`);
- ``sources``: the code at the start and after each resume that changed it; ``source`` is the code
  at the end;
- ``teacher``: the weights of the teacher;
- ``weights``: the weights of best.ckpt, to which evaluations and explanations belong.

Runs of earlier versions lack ``rows`` and ``sources``, students ``weights`` too; their ``data`` is
the hash of the files alone. What they lack is said and never taken to be equal or different.
"""

from collections.abc import Mapping, Sequence
from typing import Any

Hashes = Mapping[str, Any]

_DIFFERENT = {
    "splits": "other splits",
    "labels": "other labels",
    "methods": "other methods",
    "videos": "other videos",
    "frames": "other frame numbers",
    "pairs": "other pairs",
}
UNKNOWN_ROWS = (
    "it was made by an earlier version, which did not record splits, labels and videos: only its "
    "files were compared"
)


def changed_data(earlier: Hashes, now: Hashes) -> str:
    """Name what differs between the data of two results.

    Args:
        earlier: ``data``, and ``rows`` unless it is of an earlier version.
        now: The same of the other result.

    Returns:
        ``other splits, other labels`` and the like; nothing where no difference is known.
    """
    if earlier.get("data") == now.get("data"):
        return ""
    old, new = earlier.get("rows"), now.get("rows")
    if not old or not new:
        files = [(rows or {}).get("files", it.get("data")) for it, rows in
                 ((earlier, old), (now, new))]  # fmt: skip
        return "" if files[0] == files[1] else "other frames"
    if old.get("paths") != new.get("paths"):
        return "other frames"
    said = [text for part, text in _DIFFERENT.items() if old.get(part) != new.get(part)]
    if old.get("files") != new.get("files") and "other pairs" not in said:
        said.insert(0, "other contents of the frames")
    return ", ".join(said) or "other rows"


def rows_are_known(hashes: Hashes) -> bool:
    """Whether a result says its splits, labels and videos."""
    return bool(hashes.get("rows"))


def comparable_data(several: Sequence[Hashes]) -> list[str]:
    """Return a hash of the data of each result; equal ones mean that no difference is known.

    Where one of them is of an earlier version, only the files of all are compared.
    """
    if all(map(rows_are_known, several)) or not any(map(rows_are_known, several)):
        return [str(hashes.get("data") or "") for hashes in several]
    return [
        str((hashes.get("rows") or {}).get("files") or hashes.get("data") or "")
        for hashes in several
    ]


def belongs(record: Hashes, results: Hashes | None) -> bool | None:
    """Whether an evaluation, a robustness measurement or an explanation is of a run's weights.

    Args:
        record: What ``evaluation.json``, ``robustness.json`` or ``explanations.json`` holds.
        results: What the run's ``metrics.json`` holds; None where it is not finished.

    Returns:
        None where one of the two does not say its weights.
    """
    theirs = (record.get("hashes") or {}).get("checkpoint")
    ours = ((results or {}).get("hashes") or {}).get("weights")
    return None if not theirs or not ours else bool(theirs == ours)


def sources_of(hashes: Hashes) -> list[str | None]:
    """Return the hashes of the code that a result was made with; None for an unknown one."""
    found = list(hashes.get("sources") or [hashes.get("source")])
    return [*found, hashes.get("tested_with", found[-1])]


def with_source(sources: Sequence[str | None], source: str) -> list[str | None]:
    """Add the code of a fit to that of its earlier parts, where it is another."""
    return [*sources] if sources and sources[-1] == source else [*sources, source]

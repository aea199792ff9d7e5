"""Provenance of a result: hashes, versions, and the comparison of what two results were made from.

``inputs.json`` has a run's hashes from the start of a fit, ``metrics.json`` at its end:

- ``config`` and ``recipe``: its configuration (:mod:`tokd_lightning.runs.identity`);
- ``data``: the rows used, with a hash of each part under ``rows``
  (:mod:`tokd_lightning.data.rows`);
- ``sources``: the code at the start and after each resume that changed it; ``source`` is the code
  at the end;
- ``teacher``: the weights of the teacher;
- ``weights``: the weights of best.ckpt, to which evaluations and explanations belong.

Runs of earlier versions lack ``rows`` and ``sources``, and students' runs ``weights``; their
``data`` is the hash of the files only. Missing parts are reported and never assumed to be equal or
different.
"""

import hashlib
import json
import subprocess
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from tokd_lightning import __version__
from tokd_lightning.data.versions import media_versions
from tokd_lightning.runs.identity import Config, config_hash

Hashes = Mapping[str, Any]

_DIFFERENT = {
    "splits": "other splits",
    "labels": "other labels",
    "methods": "other methods",
    "videos": "other videos",
    "frames": "other frame numbers",
    "pairs": "other pairs",
    "landmarks": "other landmarks",
    "masks": "other masks",
}
# What a fit reads for its loss and a test does not read; compared where both have read it.
_FOR_THE_LOSS = ("landmarks", "masks")
UNKNOWN_ROWS = (
    "it was made by an earlier version, which did not record splits, labels and videos: only its "
    "files were compared"
)


def source_hash() -> str:
    """Return the hash of this package's Python source."""
    here = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(here.rglob("*.py")):
        digest.update(path.relative_to(here).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def commit() -> str | None:
    """Return the source tree's commit, with ``+`` for local changes; None outside a checkout."""
    here = Path(__file__).parent
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        inside = subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name],
            cwd=here, capture_output=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() if inside.returncode == 0 else None


def versions() -> dict[str, str]:
    """Return the versions of packages a result depends on, image and video readers included."""
    packages = ("torch", "torchvision", "lightning", "timm", "kornia", "torchmetrics", "pandas")
    from importlib import metadata  # slow to import, and most commands ask for no versions

    # A source tree that is not installed has no metadata.
    found = {"tokd-lightning": __version__, **{name: metadata.version(name) for name in packages}}
    return found | media_versions()


def provenance(config: Config, inputs: Mapping[str, str]) -> Config:
    """Return a run's provenance: hashes of configuration, source and inputs, and versions."""
    hashes = {"config": config_hash(config), "source": source_hash(), **inputs}
    return {
        "seed": int(config["seed_everything"]),
        "hashes": hashes,
        "commit": commit(),
        "versions": versions(),
    }


def changed_data(earlier: Hashes, now: Hashes) -> str:
    """Return the differences between the data of two results.

    Args:
        earlier: ``data``, and ``rows`` unless the result is from an earlier version.
        now: The same for the other result.

    Returns:
        Text such as ``other splits, other labels``; empty if no difference is known.
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
    unread = {part for part in _FOR_THE_LOSS if (part in old) != (part in new)}
    if unread and _without(old, {"order", *unread}) == _without(new, {"order", *unread}):
        return ""
    said = [
        text
        for part, text in _DIFFERENT.items()
        if part not in unread and old.get(part) != new.get(part)
    ]
    if old.get("files") != new.get("files") and "other pairs" not in said:
        said.insert(0, "other contents of the frames")
    return ", ".join(said) or "other rows"


def _without(rows: Hashes, parts: Collection[str]) -> dict[str, Any]:
    return {part: found for part, found in rows.items() if part not in parts}


def rows_are_known(hashes: Hashes) -> bool:
    """Return whether a result records its splits, labels and videos."""
    return bool(hashes.get("rows"))


def comparable_data(several: Sequence[Hashes]) -> list[str]:
    """Return a hash of the data of each result; equal hashes mean that no difference is known.

    If one of the results is from an earlier version, only the files are compared.
    """
    if all(map(rows_are_known, several)):
        if any(hashes["rows"].keys() & set(_FOR_THE_LOSS) for hashes in several):
            rows = (_without(hashes["rows"], {"order", *_FOR_THE_LOSS}) for hashes in several)
            return [json.dumps(one, sort_keys=True) for one in rows]
        return [str(hashes.get("data") or "") for hashes in several]
    if not any(map(rows_are_known, several)):
        return [str(hashes.get("data") or "") for hashes in several]
    return [
        str((hashes.get("rows") or {}).get("files") or hashes.get("data") or "")
        for hashes in several
    ]


def belongs(record: Hashes, weights: str | None) -> bool | None:
    """Return whether an evaluation, robustness measurement or explanation is of a run's weights.

    Args:
        record: The contents of ``evaluation.json``, ``robustness.json`` or ``explanations.json``.
        weights: Hash of the weights of best.ckpt; None or empty if the run does not record it.

    Returns:
        None if one of the two does not record its weights.
    """
    theirs = (record.get("hashes") or {}).get("checkpoint")
    return None if not theirs or not weights else bool(theirs == weights)


def sources_of(hashes: Hashes) -> list[str | None]:
    """Return the hashes of the code a result was made with; None stands for an unknown one."""
    found = list(hashes.get("sources") or [hashes.get("source")])
    return [*found, hashes.get("tested_with", found[-1])]


def with_source(sources: Sequence[str | None], source: str) -> list[str | None]:
    """Append the code of a resumed fit to that of its earlier parts if it is different."""
    return [*sources] if sources and sources[-1] == source else [*sources, source]

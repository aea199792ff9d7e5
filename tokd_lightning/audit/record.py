"""An audit as one JSON document: a pure function of what a run folder holds."""

from pathlib import Path
from typing import Any

from tokd_lightning import __version__
from tokd_lightning.audit.checks import BOOTSTRAP, checks, verdict
from tokd_lightning.audit.measured import measured_sections
from tokd_lightning.audit.sections import calibration, cross, forgeries, ranking, real_floor
from tokd_lightning.audit.stored import Stored, read_stored, trained_methods
from tokd_lightning.runs.record import without_nan

FORMAT = 1


def audit_run(folder: Path) -> dict[str, Any]:
    """Audit a run from its folder; neither data nor checkpoints are read.

    Args:
        folder: The run's folder.

    Returns:
        ``verdict``, ``checks`` and the sections ``ranking``, ``forgeries``, ``left_out``,
        ``real_floor``, ``cross``, ``calibration``, ``leaks``, ``duplicates``, ``shortcuts`` and
        ``probe``; fractions as in ``metrics.json``, intervals as ``value``, ``low``, ``high``.

    Raises:
        TokdError: The folder has no stored scores, or a file cannot be read.
    """
    stored = read_stored(folder)
    found: dict[str, Any] = {
        "ranking": [ranking(scored) for scored in stored.scored],
        "forgeries": forgeries(stored),
        "left_out": list(trained_methods(stored.config)[1]),
        "real_floor": real_floor(stored),
        "cross": cross(stored.scored),
        "calibration": calibration(stored),
        **measured_sections(stored),
    }
    made = checks(stored, found)
    about = _about(stored) | {"bootstrap": BOOTSTRAP, "notes": list(stored.notes)}
    said = {"verdict": verdict(made)._asdict(), "checks": [check._asdict() for check in made]}
    document: dict[str, Any] = without_nan(about | said | found)
    return document


def _about(stored: Stored) -> dict[str, Any]:
    record = stored.record
    about: dict[str, Any] = {"format": FORMAT, "version": __version__, "run": stored.name}
    if record is not None:
        about |= {
            "cell": None if record.cell is None else record.cell._asdict(),
            "synthetic": record.synthetic,
            "parameters": record.parameters,
            "seed": record.seed,
            "hashes": record.hashes,
            "commit": record.commit,
        }
    return about

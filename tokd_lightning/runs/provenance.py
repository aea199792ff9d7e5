"""Provenance of a result: configuration, source, inputs, versions."""

import hashlib
import subprocess
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from tokd_lightning import __version__
from tokd_lightning.data.versions import media_versions
from tokd_lightning.runs.naming import Config, config_hash


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

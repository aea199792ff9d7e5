"""What a bug report needs to know of a machine: versions, device, commit."""

import platform

from tokd_lightning import __version__
from tokd_lightning.runs.provenance import commit, versions


def describe() -> list[str]:
    """Return one line per fact: package, commit, Python, platform, versions and devices.

    Packages of extras that are not installed are named as such.
    """
    import torch

    found = versions() | {"cuda": torch.version.cuda or "none"}
    devices = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())]
    return [
        f"tokd_lightning {__version__}",
        f"commit: {commit() or 'unknown (not a source tree)'}",
        f"python: {platform.python_version()}, {platform.platform()}",
        *(f"{name}: {version}" for name, version in found.items() if name != "tokd-lightning"),
        f"devices: {', '.join(devices) or 'cpu'}, {torch.get_num_threads()} threads",
    ]

"""A virtual environment with the plain dependencies of the package alone, without the network."""

import re
import shutil
import subprocess
import sys
import venv
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]


def closure(requirements):
    """Return the distributions that these need, by name, as far as they are installed here."""
    found, waiting, seen = {}, list(requirements), set()
    while waiting:
        given = waiting.pop()
        name = re.sub(r"[-_.]+", "-", given.name).lower()
        if (name, *sorted(given.extras)) in seen:
            continue
        seen.add((name, *sorted(given.extras)))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # of another platform
            continue
        for needed in map(Requirement, found[name].requires or ()):
            marker = needed.marker
            if marker is None or any(marker.evaluate({"extra": e}) for e in ("", *given.extras)):
                waiting.append(needed)
    return found


def build_wheel(folder):
    """Build the wheel of this tree, from a copy: the build leaves files behind."""
    for name in ("tokd_lightning", "configs", "experiments"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-index"]
    options = ["--no-build-isolation", "--wheel-dir", str(folder), str(folder)]
    subprocess.run([*command, *options], check=True, capture_output=True, cwd=folder)
    return next(folder.glob("*.whl"))


def make(folder, wheel, *extras):
    """Make an environment with a wheel and what it needs, by links to what is installed here.

    Args:
        folder: Its folder, new.
        wheel: The wheel to install.
        *extras: Extras of it.

    Returns:
        The path of its ``tokd``.
    """
    venv.create(folder, symlinks=True)
    python = folder / "bin" / "python"
    place = next((folder / "lib").glob("python*/site-packages"))
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps",
         "--no-index", str(wheel)],
        check=True, capture_output=True,
    )  # fmt: skip
    [metadata] = place.glob("tokd_lightning-*.dist-info/METADATA")
    needed = []
    for line in metadata.read_text().splitlines():
        if line.startswith("Requires-Dist: "):
            given = Requirement(line.removeprefix("Requires-Dist: "))
            marker = given.marker
            if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras):
                needed.append(given)
    for one in closure(needed).values():
        for top in {file.parts[0] for file in one.files or () if file.parts[0] != ".."}:
            if not (place / top).exists():
                (place / top).symlink_to(Path(str(one.locate_file(top))))
    return folder / "bin" / "tokd"

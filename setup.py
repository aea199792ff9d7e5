"""Build step: the experiments and their parts travel in the wheel, as tokd_lightning/recipes."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithRecipes(build_py):
    """Copy ``configs/`` and ``experiments/`` next to the modules."""

    def run(self) -> None:
        """Build the package, and add the recipes unless it is installed in place."""
        super().run()
        if not self.editable_mode:
            for name in ("configs", "experiments"):
                place = Path(self.build_lib, "tokd_lightning", "recipes", name)
                shutil.copytree(name, place, dirs_exist_ok=True)


setup(cmdclass={"build_py": BuildWithRecipes})

"""Imports of the training stack."""

import subprocess
import sys

CODE = """
import atexit, gc, sys
atexit.register(lambda: print(gc.get_freeze_count()))  # called last
from tokd_lightning.commands import importing
with importing():
    during = gc.isenabled(), sys.modules["wandb"]
assert during == (False, None), during
assert gc.isenabled() and gc.get_freeze_count() > 1000
assert "wandb" not in sys.modules
frozen = gc.get_freeze_count()
sys.modules["torch"] = sys  # imported before: what has been made since may be garbage
try:
    with importing():
        raise ImportError
except ImportError:
    pass
assert gc.isenabled() and gc.get_freeze_count() <= frozen
gc.disable()
with importing():
    pass
assert not gc.isenabled()
"""


def test_the_collector_rests_meanwhile_and_works_as_before_after_it():
    command = [sys.executable, "-c", CODE]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    assert done.stdout == "0\n"  # else nanobind reports leaks at the end of every process

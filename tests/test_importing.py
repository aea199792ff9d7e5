"""Imports of the training stack."""

import subprocess
import sys

CODE = """
import gc, sys
from tokd_lightning.commands import importing
with importing():
    during = gc.isenabled(), sys.modules["wandb"]
assert during == (False, None), during
assert gc.isenabled() and gc.get_freeze_count() > 1000
assert "wandb" not in sys.modules
gc.unfreeze()
sys.modules["torch"] = sys  # imported before: what has been made since may be garbage
try:
    with importing():
        raise ImportError
except ImportError:
    pass
assert gc.isenabled() and not gc.get_freeze_count()
gc.disable()
with importing():
    pass
assert not gc.isenabled()
"""


def test_the_collector_rests_meanwhile_and_works_as_before_after_it():
    subprocess.run([sys.executable, "-c", CODE], check=True)

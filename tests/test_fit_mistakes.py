"""What a user can ask of a fit that cannot be: one line each, exit code 2, nothing left behind."""

from functools import partial

import pytest
import torch
from test_cli import ROOT, SMALL, TINY_STUDENT

from tokd_lightning.cli import main
from tokd_lightning.distillation import RotationOptimizer
from tokd_lightning.errors import TokdError
from tokd_lightning.modules.rotation_step import optimizer_of


def fit(root, runs, *options):
    given = [f"--config={ROOT}/experiments/demo_vanilla.yaml", f"--data.root={root}"]
    return main(["fit", *given, f"--runs={runs}", *TINY_STUDENT, *options])


def line(capsys):
    error = capsys.readouterr().err
    [said] = [line for line in error.splitlines() if line.startswith("tokd: ")]
    assert "Traceback" not in error
    return said


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trainer.strategy=ddp_spawn"], "--trainer.strategy ddp_spawn is not supported: use"),
        (["--trainer.strategy=FSDPStrategy"], "is not supported: use auto or ddp"),
        (["--trainer.barebones=true"], "barebones=True"),
        (["--model.lr_scheduler.pct_start=3"], "--model.lr_scheduler: Expected float between"),
        (
            ["--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=0"],
            "--model.lr_scheduler: integer modulo by zero",
        ),
    ],
    ids=str,
)
def test_what_cannot_be_made_is_one_line(tiny_ffpp, tmp_path, capsys, options, said):
    small = [o for o in SMALL if "total_steps" not in o]
    assert fit(tiny_ffpp, tmp_path, *small, *options) == 2
    assert said in line(capsys)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_that_ends_before_a_validation_says_how_to_have_one(tiny_ffpp, tmp_path, capsys):
    assert fit(tiny_ffpp, tmp_path, *SMALL, "--trainer.max_steps=2") == 2
    assert "no best.ckpt: let --trainer.max_steps" in line(capsys)
    assert not list(tmp_path.rglob("metrics.json"))
    sooner = "--trainer.val_check_interval=1"
    assert fit(tiny_ffpp, tmp_path, *SMALL, "--trainer.max_steps=2", sooner) == 0


def test_a_rotation_optimizer_that_cannot_be_made_is_named():
    wrong = partial(RotationOptimizer, lr=-1)
    with pytest.raises(TokdError, match=r"--model\.rotation_optimizer: lr -1"):
        optimizer_of(wrong, [torch.nn.Parameter(torch.eye(2))], "rotation_optimizer")

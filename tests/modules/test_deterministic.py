"""``--trainer.deterministic true``: nothing in a step refuses it, and cuBLAS is told in time."""

import os

import pytest
import torch
from small import Images, distill_module, quiet, teacher_module


@pytest.fixture
def unset(monkeypatch):
    """As in a shell where nobody has set anything."""
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("kind", ["teacher", "student"])
def test_a_deterministic_trainer_sets_what_cublas_wants_and_trains(unset, teacher, kind):
    module = teacher_module() if kind == "teacher" else distill_module(teacher)
    trainer = quiet(deterministic=True)
    assert torch.are_deterministic_algorithms_enabled()
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    trainer.fit(module, datamodule=Images(1))
    assert trainer.global_step == 1

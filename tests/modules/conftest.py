from pathlib import Path

import pytest
import torch
from small import Images, quiet, teacher_module

from tokd_lightning.loggers.run import RunLogger
from tokd_lightning.modules import compile as compile_module


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small teacher, trained for four batches with its projectors."""
    path = tmp_path_factory.mktemp("teacher") / "best.ckpt"
    trainer = quiet()
    trainer.fit(teacher_module(), datamodule=Images(batches=4))
    trainer.save_checkpoint(path)
    return path


@pytest.fixture
def forgotten():
    """What one test has compiled is no matter of the next."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture
def compiled(forgotten, monkeypatch):
    """Compile to the operations as they are; the list grows by a graph each time."""
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    monkeypatch.setattr(compile_module, "BACKEND", backend)
    return graphs


@pytest.fixture
def a_kill_leaves_no_time(monkeypatch):
    """Rows that are not in the file when a run is killed are lost."""
    finalize = RunLogger.finalize
    monkeypatch.setattr(
        RunLogger, "finalize", lambda self, status: status == "failed" or finalize(self, status)
    )

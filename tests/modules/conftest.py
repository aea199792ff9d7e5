from pathlib import Path

import pytest
import torch
from small import Images, quiet, teacher_module


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    """Bit-identical runs need one number of threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small teacher, trained for four batches with its projectors."""
    path = tmp_path_factory.mktemp("teacher") / "best.ckpt"
    trainer = quiet()
    trainer.fit(teacher_module(), datamodule=Images(batches=4))
    trainer.save_checkpoint(path)
    return path

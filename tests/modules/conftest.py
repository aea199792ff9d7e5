from pathlib import Path

import pytest
from small import Images, quiet, teacher_module


@pytest.fixture(scope="session")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a small teacher, trained for four batches with its projectors."""
    path = tmp_path_factory.mktemp("teacher") / "best.ckpt"
    trainer = quiet()
    trainer.fit(teacher_module(), datamodule=Images(batches=4))
    trainer.save_checkpoint(path)
    return path

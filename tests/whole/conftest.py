import os
from collections.abc import Iterator

import genuine
import pytest
from whole_way import Place


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    """Without the weights of ImageNet."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("place")
        made = Place(folder)
        patch.chdir(folder)
        patch.setenv("WANDB_MODE", "disabled")
        yield made


@pytest.fixture(scope="module")
def stocked(place: Place) -> Iterator[Place]:
    """With weights where timm looks for those of ImageNet."""
    with pytest.MonkeyPatch.context() as patch:
        for key, value in genuine.weights(place.folder / "weights").items():
            patch.setenv(key, value)
        hub = place.folder / "weights" / "hub" / "hub"
        patch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.fspath(hub))
        yield place

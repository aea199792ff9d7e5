from collections.abc import Callable

import pytest
import torch
from torch import nn


def _settle(network: nn.Module) -> nn.Module:
    """Give a fresh network batch norms that do something, and put it into eval mode."""
    generator = torch.Generator().manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d) and module.track_running_stats:
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5, generator=generator)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_(0, 0.2, generator=generator)
    return network.eval()


@pytest.fixture
def settle() -> Callable[[nn.Module], nn.Module]:
    return _settle


@pytest.fixture
def photographs() -> torch.Tensor:
    return torch.randn(2, 3, 96, 96, generator=torch.Generator().manual_seed(1))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)

import pytest
import torch
from tiny_networks import TinyStudent
from torch import Tensor


@pytest.fixture
def student() -> TinyStudent:
    torch.manual_seed(0)
    return TinyStudent().double()


@pytest.fixture
def images() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(6, 3, 3, 3, dtype=torch.float64)

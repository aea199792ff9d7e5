"""All names of timm, by kinds: names of one class with the same kinds of modules and sizes."""

from collections import defaultdict

import pytest
import timm
import torch
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import build_backbone

SIZES = (224, 256)
LARGE = 90_000_000  # parameters; the smallest network of a kind with more is built without data
# Role -> size -> least number of names that must be accepted.
LEAST = {"maps": {224: 1330, 256: 1330}, "steps": {224: 1250, 256: 1250}}


def kind_of(network: nn.Module) -> tuple[object, ...]:
    """Return what decides how a network is cut: its class, modules, strides, stem and windows."""
    stem = next((m for m in network.modules() if isinstance(m, nn.Conv2d)), None)
    of_stem = None if stem is None else (stem.kernel_size, stem.stride, stem.padding)
    modules = sorted({type(m).__name__ for m in network.modules()})
    windows = sorted({str(m.window_size) for m in network.modules() if hasattr(m, "window_size")})
    reductions = tuple(info["reduction"] for info in getattr(network, "feature_info", []))
    native = network.pretrained_cfg["input_size"][-1]
    sized = bool(network.pretrained_cfg.get("fixed_input_size"))
    own_size = (native, *windows) if sized else ()
    strides = tuple(dict.fromkeys(map(str, reductions)))
    return type(network).__name__, *modules, of_stem, strides, own_size


@pytest.fixture(scope="module")
def kinds():
    """Names of each kind, the smallest network first, with its number of parameters."""
    found = defaultdict(list)
    for name in timm.list_models():
        with torch.device("meta"):
            network = timm.create_model(name, num_classes=0)
        size = sum(p.numel() for p in network.parameters())
        found[kind_of(network)].append((size, name))
    return [sorted(names) for names in found.values()]


def refusal(name: str, role: str, size: int, meta: bool) -> str:
    """Return why a name is refused; empty if it is accepted."""
    try:
        if meta:
            with torch.device("meta"):
                build_backbone(name, size=size, role=role)
        else:
            build_backbone(name, size=size, role=role)
    except TokdError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize("role", ["maps", "steps"])
@pytest.mark.parametrize("size", SIZES)
def test_names_of_timm_are_accepted_or_refused_in_one_line(role, size, kinds, capsys):
    lines, accepted = [], 0
    for names in kinds:
        parameters, smallest = names[0]
        # Gemma 4's forward pass needs data.
        meta = parameters > LARGE and "gemma" not in smallest
        if reason := refusal(smallest, role, size, meta):
            assert "\n" not in reason
            lines.append(f"{len(names):4} {' '.join(name for _, name in names)[:80]}: {reason}")
        else:
            accepted += len(names)
    total = sum(map(len, kinds))
    report = "\n".join([f"{role} at {size} px: {accepted} of {total}, {len(kinds)} kinds", *lines])
    with capsys.disabled():
        print(f"\n{report}")
    assert accepted >= LEAST[role][size]

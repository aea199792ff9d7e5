"""All names of timm, by kinds: names of one class with the same kinds of modules and sizes."""

from collections import defaultdict

import pytest
import timm
import torch
from torch import nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.stepped import SteppedBackbone
from tokd_lightning.models.tapped import TappedBackbone

SIZES = (224, 256)
LARGE = 90_000_000  # parameters; the smallest network of a kind with more is built without data
LEAST = {"maps": 1330, "steps": 1250}  # names that must be accepted at each size


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
@pytest.mark.parametrize("size", SIZES)
def test_names_of_timm_are_accepted_or_refused_in_one_line(size, kinds, capsys):
    assert issubclass(SteppedBackbone, TappedBackbone)  # what stops between blocks has maps
    lines, accepted = [], dict.fromkeys(LEAST, 0)
    for names in kinds:
        parameters, smallest = names[0]
        # Gemma 4's forward pass needs data.
        meta = parameters > LARGE and "gemma" not in smallest
        for role in ("steps", "maps"):
            if not (reason := refusal(smallest, role, size, meta)):
                break
            assert "\n" not in reason
            lines.append(f"{role}: {len(names):4} {named(names)}: {reason}")
        else:
            continue
        accepted["maps"] += len(names)
        accepted["steps"] += len(names) if role == "steps" else 0
    with capsys.disabled():
        total = sum(map(len, kinds))
        print(f"\n{size} px: {accepted} of {total}, {len(kinds)} kinds", *lines, sep="\n")
    assert all(accepted[role] >= least for role, least in LEAST.items())


def named(names: list[tuple[int, str]]) -> str:
    return " ".join(name for _, name in names)[:80]

"""Parts of a network that train: all of it, its norms, its head, or low-rank adapters (LoRA)."""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models.backbones import Backbone
from tokd_lightning.models.detectors.networks import FineMaps
from tokd_lightning.models.probe import activation_bytes, meta_copy

_ATTENTION = re.compile(r"(qkv|kv|[qkv](_proj)?|to_(q|k|v|qkv|out)|proj|out_proj)")
_ADAPTER = ".lora_A.default.weight"
_BASE = ".base_layer"


class Tune(NamedTuple):
    """What of a network trains.

    Attributes:
        kind: ``all``, ``norms``, ``head`` or ``lora``.
        rank: Rank of the adapters; 0 without.
    """

    kind: str
    rank: int = 0

    def __str__(self) -> str:
        """Return it as in the configuration."""
        return f"lora({self.rank})" if self.rank else self.kind

    @classmethod
    def parse(cls, text: str) -> "Tune":
        """Read ``all``, ``norms``, ``head`` or ``lora(RANK)``.

        Raises:
            TokdError: It is something else.
        """
        if text in ("all", "norms", "head"):
            return cls(text)
        if (found := re.fullmatch(r"lora\(([1-9]\d{0,3})\)", text)) is None:
            raise TokdError(
                f"--model.tune {text}: choose all, norms, head or lora(RANK), such as 'lora(8)'"
            )
        return cls("lora", int(found[1]))


def is_norm(module: nn.Module) -> bool:
    """Return whether a module is a normalisation layer with weights: batch, layer, RMS and so on.

    Those of timm are named after what they are, as torch's are.
    """
    named = "norm" in type(module).__name__.lower()
    return named and any(True for _ in module.parameters(recurse=False))


class Tuning:
    """Freezes the backbones of a network, except for what ``tune`` names.

    Parts outside the backbones (classifier, RFAMs, a detector's own layers) have no pretrained
    weights and train in every case. Frozen modules are in eval mode, so that their dropout is off
    and their BatchNorm statistics stay; frozen parameters get no gradient.

    Args:
        network: Changed in place.
        tune: What trains.

    Raises:
        TokdError: The network has no backbone, or its backbone has no such layers.
    """

    def __init__(self, network: nn.Module, tune: Tune) -> None:
        self.tune = tune
        self.network = network
        self._bodies = bodies_of(network) if self.partial else {}
        if not self.partial:
            return
        if not self._bodies:
            raise TokdError(
                f"--model.tune {tune}: {type(network).__name__} has no backbone apart from the "
                "rest, so that all of it trains: leave --model.tune all"
            )
        layers = list(self._layers())
        if tune.kind != "head" and not layers:
            norms = tune.kind == "norms"
            raise TokdError(
                f"--model.tune {tune}: the backbone has no "
                f"{'normalisation layers' if norms else 'linear layers to adapt'}; "
                f"--model.tune {'head' if norms else 'norms'} trains another part"
            )
        for body in self._bodies.values():
            body.requires_grad_(False)
        if tune.kind == "norms":
            for _, layer in layers:
                layer.requires_grad_(True)
        self.set_modes()

    @property
    def partial(self) -> bool:
        """Whether a part is frozen."""
        return self.tune.kind != "all"

    def _layers(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the layers of the bodies that train, or are adapted, by their names."""
        for prefix, body in self._bodies.items():
            for name, module in body.named_modules(prefix=prefix):
                norms, lora = self.tune.kind == "norms", self.tune.kind == "lora"
                if (norms and is_norm(module)) or (lora and isinstance(module, nn.Linear)):
                    yield name, module

    def set_modes(self) -> None:
        """Set frozen modules to eval mode; to be called whenever the network is set to train."""
        if not self.partial or not self.network.training:
            return
        for body in self._bodies.values():
            body.eval()
        for _, layer in self._layers() if self.tune.kind == "norms" else ():
            layer.train()

    def adapt(self, size: int) -> None:
        """Insert the adapters of LoRA, W + B A of the rank, into the bodies' attention.

        Linear layers of attention (qkv, proj and the like) are adapted; without any, all linear
        layers. B starts at zero, so that the network is unchanged at first.

        Args:
            size: Side of the images in pixels, for a backward pass on the meta device that detects
                adapters without gradient.

        Raises:
            TokdError: peft is not installed, or an adapter gets no gradient, because the network
                reads the layer's weight without calling the layer.
        """
        if self.tune.kind != "lora" or self.adapted:
            return
        try:
            from peft import LoraConfig, inject_adapter_in_model
        except ImportError as error:
            raise TokdError(
                '--model.tune lora needs peft: pip install "tokd-lightning[lora]"'
            ) from error
        names = [name for name, _ in self._layers()]
        attention = [name for name in names if _ATTENTION.fullmatch(name.rpartition(".")[2])]
        config = LoraConfig(
            r=self.tune.rank, lora_alpha=self.tune.rank, target_modules=attention or names
        )
        trained = {name for name, p in self.network.named_parameters() if p.requires_grad}
        inject_adapter_in_model(config, self.network)
        for name, parameter in self.network.named_parameters():
            parameter.requires_grad_(name in trained or ".lora_" in name)
        self.set_modes()
        if dead := _without_gradient(self.network, size):
            raise TokdError(
                f"--model.tune {self.tune}: {len(dead)} of {len(attention or names)} "
                f"adapters get no gradient (first {dead[0]}), as the network reads the weight of "
                "that layer without calling it: use --model.tune norms"
            )

    @property
    def adapted(self) -> bool:
        """Whether the adapters of LoRA are inserted."""
        return any(name.endswith(_ADAPTER) for name, _ in self.network.named_parameters())

    def fold(self) -> None:
        """Add the adapters to the weights and remove them, as :func:`merged` does."""
        if not self.adapted:
            return
        state = merged(self.network.state_dict())
        for name, module in list(self.network.named_modules()):
            if hasattr(module, "lora_A"):
                layer = module.get_submodule("base_layer")
                layer.get_parameter("weight").requires_grad_(True)  # changed: not frozen any more
                self.network.set_submodule(name, layer)
        self.network.load_state_dict(state)

    def frozen_entries(self) -> list[str]:
        """Return the entries of the network's state dict that training does not change.

        They are the parameters without gradient and, as statistics do not change in eval mode, the
        buffers of modules without a trained parameter.
        """
        entries = []
        for prefix, body in self._bodies.items():
            for name, part in body.named_modules(prefix=prefix, remove_duplicate=False):
                own = dict(part.named_parameters(recurse=False))
                learns = any(p.requires_grad for p in own.values())
                buffers = [] if learns else [n for n, _ in part.named_buffers(recurse=False)]
                frozen = [key for key, p in own.items() if not p.requires_grad]
                entries += [f"{name}.{key}" for key in (*frozen, *buffers)]
        return sorted(set(entries) & self.network.state_dict().keys())


def _without_gradient(network: nn.Module, size: int) -> list[str]:
    """Return the names of the adapted layers whose adapters get no gradient."""
    copy = meta_copy(network)
    image = torch.empty(2, 3, size, size, device="meta")
    copy(image).logits.sum().backward()
    return [
        name.removesuffix(_ADAPTER)
        for name, parameter in copy.named_parameters()
        if name.endswith(_ADAPTER) and parameter.grad is None
    ]


def plain_name(entry: str) -> str:
    """Return the name that an entry of an adapted network has without adapters."""
    return entry.replace(f"{_BASE}.", ".")


def merged(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with its adapters added to the weights, under the plain names.

    W = W_0 + B A, where A is ``(rank, in)`` and B ``(out, rank)``; the scale alpha / rank is 1.
    """
    plain = {plain_name(key): value for key, value in state.items() if ".lora_" not in key}
    for key, a in state.items():
        if key.endswith(_ADAPTER):
            layer = key.removesuffix(_ADAPTER)
            b = state[f"{layer}.lora_B.default.weight"]
            plain[f"{layer}.weight"] = plain[f"{layer}.weight"] + b @ a
    return plain


def bodies_of(network: nn.Module) -> dict[str, nn.Module]:
    """Return name -> part that starts from pretrained weights: the backbones of a network."""
    found: dict[str, nn.Module] = {}
    for name, module in network.named_modules():
        below = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, Backbone | FineMaps) and not below:
            found[name] = module
    return found


def recompute(network: nn.Module, size: int) -> None:
    """Have the backbones of a network recompute activations, see :mod:`.recompute`.

    Args:
        network: Changed in place.
        size: Side of the images in pixels, for a pass on the meta device that checks it.

    Raises:
        TokdError: The network does not run its backbones block by block, so that it would keep all
            activations, or has blocks that overwrite their input.
    """
    copy = meta_copy(network).requires_grad_(True).train()
    before = activation_bytes(copy, size)
    for module in (*network.modules(), *copy.modules()):
        if isinstance(module, Backbone):
            module.recomputes = True
    why = "does not run its backbone block by block"
    if spared := activation_bytes(copy, size) < before:
        try:
            copy(torch.empty(2, 3, size, size, device="meta")).logits.sum().backward()
        except RuntimeError:
            spared, why = False, "has blocks that overwrite their input"
    if not spared:
        raise TokdError(
            f"--model.checkpointing: {type(network).__name__} {why}, so that activations cannot be "
            "recomputed: leave it false"
        )

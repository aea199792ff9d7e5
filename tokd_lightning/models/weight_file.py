"""Backbone weights from a file: timm's release, a training checkpoint, or a `tokd fit` run."""

import argparse
import logging
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tokd_lightning.errors import TokdError

State = dict[str, Tensor]

_HEADER = "tokd"  # header of the checkpoints of `tokd fit`
_WRAPPERS = ("state_dict_ema", "model_ema", "state_dict", "model_state_dict", "model")
_CONVERTERS = ("checkpoint_filter_fn", "_filter_fn", "_filter_torchvision_pretrained")
_HEADS = ("fc", "head", "classifier", "last_linear")
_COUNTER = "num_batches_tracked"  # absent from files older than PyTorch 0.4.1


class Normalisation(NamedTuple):
    """Normalisation of the images that weights were trained on.

    Attributes:
        mean: Subtracted from images in [0, 1].
        std: Divisor after that.
        of: Name or file of the weights.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    of: str


class _Candidate(NamedTuple):
    """The weights under one prefix of a file, with the key names of one of the two targets."""

    prefix: str
    target: nn.Module
    state: State
    missing: list[str]
    strange: list[str]
    left: int

    @property
    def problem(self) -> str:
        """Why the weights do not fit the network; empty if they do."""
        lists = (("it lacks", self.missing), ("it has", self.strange))
        if any(keys for _, keys in lists):
            return "; ".join(
                f"{what} {', '.join(keys[:3])}{', …' if len(keys) > 3 else ''}"
                for what, keys in lists
                if keys
            )
        for key, value in self.target.state_dict().items():
            if self.state[key].shape != value.shape:
                return f"{key} is {tuple(self.state[key].shape)}, not {tuple(value.shape)}"
        return ""


def load_weights(
    model: nn.Module, path: str, backbone: nn.Module | None = None, branch: str = ""
) -> Normalisation | None:
    """Load a file of weights into a network, without the classifier.

    The names in the file are timm's, the original release's, or those of a run's checkpoint. A
    prefix (``module.``, ``backbone.``, ``student.backbone.``, …) under which every weight is found
    is removed and logged.

    Args:
        model: A timm network without classifier.
        path: A ``.safetensors`` file, or one written by ``torch.save``.
        backbone: The same network cut into stages, sharing the weights of ``model``.
        branch: Which network to choose from a file that holds several: part of its prefix.

    Returns:
        The normalisation recorded in the file, or None.

    Raises:
        TokdError: The file is missing, is not a checkpoint, belongs to another network, holds this
        one several times with different weights, or holds numbers that are not finite.
    """
    document = _read(path)
    state = _state(document)
    if "frozen" in (document.get(_HEADER) or {} if isinstance(document, Mapping) else {}):
        raise TokdError(
            f"{path} holds only what was trained of its network (--model.tune), which is no start "
            "for another: name a file of whole weights"
        )
    if not state:
        raise TokdError(f"{path} is not a file of network weights")
    state = {key.replace("_orig_mod.", ""): value for key, value in state.items()}
    chosen = _chosen(list(_candidates(state, model, backbone)), path, branch)
    for key, value in chosen.state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise TokdError(f"{path}: {key} holds numbers that are not finite; take another file")
    chosen.target.load_state_dict(chosen.state)
    if chosen.prefix or chosen.left:
        below = f" from below '{chosen.prefix}'" if chosen.prefix else ""
        _log(f"{path}: weights loaded{below}, {chosen.left} other entries left out")
    return _recorded(document, path)


@lru_cache(maxsize=1)  # logged once: a teacher's branches read the same file in turn
def _log(text: str) -> None:
    logging.getLogger(__name__).info(text)


def _read(path: str) -> Any:
    if not Path(path).is_file():
        raise TokdError(f"no pretrained weights at {path}")
    try:
        if path.endswith(".safetensors"):
            return load_file(path)
        with torch.serialization.safe_globals([argparse.Namespace]):  # of timm's training script
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler can raise anything for other files
        if objects := _objects(path):
            raise TokdError(
                f"{path} holds Python objects ({objects[0]}), which could run code when loaded: "
                "save only its state dict, with torch.save(model.state_dict(), FILE)"
            ) from error
        raise TokdError(f"{path} is not a file of network weights") from error


def _objects(path: str) -> list[str]:
    """Return the classes in a pickle that torch does not load safely; empty for other files."""
    try:
        return sorted(torch.serialization.get_unsafe_globals_in_checkpoint(path))
    except Exception:
        return []


def _state(document: Any) -> State:
    """Return the state dict in a training script's checkpoint; empty if there is none."""
    if not isinstance(document, Mapping):
        return {}
    inner = {k: found for k, v in document.items() if (found := _state(v))}
    for key in _WRAPPERS:
        if key in inner:
            return inner[key]
    own = {k: v for k, v in document.items() if isinstance(k, str) and isinstance(v, Tensor)}
    return max([own, *inner.values()], key=len)


def _candidates(state: State, model: nn.Module, backbone: nn.Module | None) -> Iterator[_Candidate]:
    """Yield candidates: every prefix with at least half as many weights as the network."""
    least = sum(_COUNTER not in key for key in model.state_dict()) // 2
    counts: Counter[str] = Counter()
    for key in state:
        parts = key.split(".")
        counts.update(".".join([*parts[:depth], ""]) for depth in range(1, len(parts)))
    prefixes = ["", *sorted((p for p, n in counts.items() if n >= least), key=len)]
    for prefix in prefixes:
        below = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        if backbone is not None and below.keys() >= _needed(backbone):
            yield _candidate(prefix, backbone, below, len(state) - len(below))
        else:
            yield _candidate(prefix, model, _converted(below, model), len(state) - len(below))


def _needed(network: nn.Module) -> set[str]:
    return {key for key in network.state_dict() if not key.endswith(_COUNTER)}


def _converted(state: State, model: nn.Module) -> State:
    """Convert a released state dict to timm's names and shapes, as timm does when it downloads."""
    module = sys.modules[type(model).__module__]
    for name in _CONVERTERS:
        if convert := getattr(module, name, None):
            # An error means that the file is no release of this network: the caller names the keys
            with suppress(KeyError, RuntimeError, ValueError, TypeError, AttributeError):
                try:
                    return dict(convert(dict(state), model))
                except TypeError:  # converters of one argument
                    return dict(convert(dict(state)))
    return state


def _candidate(prefix: str, target: nn.Module, state: State, outside: int) -> _Candidate:
    expected = target.state_dict()
    kept: State = {}
    further = []
    for key, value in state.items():
        if key in expected:
            flat = value.ndim == 2 and expected[key].ndim == 4
            kept[key] = value[:, :, None, None] if flat else value  # the original Xception's 1x1
        elif not any(key.startswith(f"{head}.") for head in _classifiers(target)):
            further.append(key)
    missing = [key for key in expected if key not in kept and not key.endswith(_COUNTER)]
    for key, value in expected.items():
        if key.endswith(_COUNTER):
            kept.setdefault(key, value)
    # Auxiliary heads have their own names; a larger network has more parts of the same names.
    parts = {key.split(".")[0] for key in expected}
    strange = [key for key in further if missing or key.split(".")[0] in parts]
    return _Candidate(prefix, target, kept, missing, strange, outside + len(further))


def _classifiers(network: nn.Module) -> tuple[str, ...]:
    named = (getattr(network, "pretrained_cfg", None) or {}).get("classifier") or ()
    return (*_HEADS, *((named,) if isinstance(named, str) else named))


def _chosen(candidates: Sequence[_Candidate], path: str, branch: str) -> _Candidate:
    fitting = [candidate for candidate in candidates if not candidate.problem]
    if not fitting:
        nearest = min(candidates, key=lambda c: (len(c.missing), len(c.strange), len(c.prefix)))
        below = f" below '{nearest.prefix}'" if nearest.prefix else ""
        raise TokdError(f"{path} holds the weights of another network{below}: {nearest.problem}")
    if fitting[0].prefix == "":
        return fitting[0]
    meant = [c for c in fitting if branch and branch in c.prefix.split(".")] or fitting
    first = meant[0]
    for other in meant[1:]:
        if not all(torch.equal(value, other.state[key]) for key, value in first.state.items()):
            places = ", ".join(f"'{c.prefix}'" for c in meant)
            raise TokdError(
                f"{path} holds several networks of this kind, below {places}: save the "
                "intended one to a separate file"
            )
    return first


def _recorded(document: Any, path: str) -> Normalisation | None:
    """Return the normalisation in the header of a run's checkpoint."""
    header = document.get(_HEADER) if isinstance(document, Mapping) else None
    if not isinstance(header, Mapping) or not {"mean", "std"} <= header.keys():
        return None
    return Normalisation(_numbers(header["mean"]), _numbers(header["std"]), path)


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(map(float, value)) if isinstance(value, list | tuple) else (float(value),)

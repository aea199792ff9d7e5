"""ImageNet weights for backbones, downloaded by timm."""

import os
import socket
import urllib.request
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import huggingface_hub as hub
import timm
import torch
from torch import nn

from tokd_lightning.errors import TokdError

_HUB_FILES = ("model.safetensors", "pytorch_model.bin")


def with_downloaded_weights(name: str, **options: Any) -> nn.Module:
    """Build a timm network without classifier, with its default ImageNet weights.

    Args:
        name: timm's name of the network.
        **options: Options of the network's constructor.

    Returns:
        The network, in train mode.

    Raises:
        TokdError: timm has no weights for it, or they are not cached and cannot be downloaded; the
            message says which file to fetch and where to put it.
    """
    cfg = timm.models.get_pretrained_cfg(name)
    if cfg is None or not (cfg.hf_hub_id or cfg.url):
        raise TokdError(f"{name} has no ImageNet weights: use `pretrained: false` or a path")
    overlay: dict[str, Any] = {}
    cached = _cached(cfg)
    if cached is not None:
        overlay["file"] = str(cached)  # avoids the hub's retries, 23 s a file without a network
    elif _offline(cfg):
        raise TokdError(_advice(name, cfg))
    try:
        model: nn.Module = timm.create_model(
            name, pretrained=True, num_classes=0, pretrained_cfg_overlay=overlay, **options
        )
    except OSError as error:
        raise TokdError(_advice(name, cfg)) from error
    return model


def _cached(cfg: Any) -> Path | None:
    """Return the weights' file in the hub's cache, or None."""
    if not cfg.hf_hub_id:
        return None
    for name in (cfg.hf_hub_filename,) if cfg.hf_hub_filename else _HUB_FILES:
        repository, _, revision = cfg.hf_hub_id.partition("@")
        path = hub.try_to_load_from_cache(repository, name, revision=revision or None)
        if isinstance(path, str):
            return Path(path)
    return None


def _offline(cfg: Any) -> bool:
    """Return whether a download is bound to fail, without waiting for a client's retries."""
    if cfg.hf_hub_id:
        if hub.is_offline_mode():
            return True
        host = urlparse(hub.constants.ENDPOINT).hostname
    else:
        if (_torch_cache() / Path(cfg.url).name).is_file():
            return False
        host = urlparse(cfg.url).hostname
    if "https" in urllib.request.getproxies():
        return False  # the proxy resolves names
    try:
        socket.create_connection((host, 443), timeout=5).close()
    except OSError:
        return True
    return False


def _torch_cache() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _advice(name: str, cfg: Any) -> str:
    """Return a one-line message: which file is missing and where to put it."""
    if cfg.hf_hub_id:
        repository, _, revision = cfg.hf_hub_id.partition("@")
        file = cfg.hf_hub_filename or _HUB_FILES[0]
        url = f"https://huggingface.co/{repository}/resolve/{revision or 'main'}/{file}"
        place = ""
    else:
        url = cfg.url
        place = f"put it into {_torch_cache()}{os.sep}, or "
    return (
        f"the ImageNet weights of {name} are neither on this machine nor can they be downloaded: "
        f"fetch {url} elsewhere, then {place}name the file with `pretrained: PATH` "
        "(`pretrained: false` starts from random weights)"
    )

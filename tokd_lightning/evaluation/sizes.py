"""Measured Table 1: parameters, multiply-accumulates and latency of the networks."""

import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn

from tokd_lightning.files import write_json
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.models.complexity import complexity
from tokd_lightning.models.detectors import DETECTORS, build_detector
from tokd_lightning.runs.provenance import source_hash, versions

_SIZE = 299
_REPEATS = 5
_STUDENTS = {
    "ResNet18-T": "resnet18_thin",
    "ResNet34-T": "resnet34_thin",
    "Xception": "xception",
}


def measure_sizes(out: Path) -> None:
    """Write Table 1 as measured here, for one image at a time, on the GPU if there is one.

    Args:
        out: JSON file: network name -> ``parameters``, ``macs`` and ``latency`` in ms, the median
            over five forward passes of the network in ``eval()``, fp32. Detectors of Table 2
            are counted at the side of their own publication, without latency.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    networks: dict[str, nn.Module] = {name: Student(b) for name, b in _STUDENTS.items()}
    networks["Teacher"] = DualBranchTeacher(pretrained=False)
    measured: dict[str, dict[str, Any]] = {}
    for name, network in networks.items():
        size = complexity(network, _SIZE)
        latency = _latency(network.eval().to(device), device)
        measured[name] = {**size._asdict(), "latency": round(latency, 2)}
    for detector in DETECTORS.values():
        network = build_detector({"detector": detector.name, "pretrained": False})
        measured[detector.title] = complexity(network, network.size)._asdict()
    about = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    threads = "" if device.type == "cuda" else f", {torch.get_num_threads()} thread(s)"
    document = {
        "networks": measured,
        "size": _SIZE,
        "device": f"{about}{threads}",
        "hashes": {"source": source_hash()},
        "versions": versions(),
    }
    write_json(out, document)


@torch.inference_mode()
def _latency(network: nn.Module, device: torch.device) -> float:
    """Return the median time per image in ms."""
    image = torch.randn(1, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(0)).to(device)
    seconds = []
    for _ in range(_REPEATS + 1):
        _wait(device)
        started = time.perf_counter()
        network(image)
        _wait(device)
        seconds.append(time.perf_counter() - started)
    return 1000 * statistics.median(seconds[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

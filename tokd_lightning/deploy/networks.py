"""Deployed student: S_B, G_Sc and a heatmap, as ONNX, safetensors and torch."""

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import Student
from tokd_lightning.models.detectors import Detector
from tokd_lightning.models.rebuild import rebuild

INPUT = "image"
OUTPUTS = ("logits", "heat_map")
OPSET = 20
EXTRA = 'pip install "tokd-lightning[train]"'


class Deployed(nn.Module):
    r"""S_B with G_Sc (Sec. 4.3) and the class activation map of its decision.

    G_Sc is a linear layer on the spatial average of S_B's last feature map :math:`f`, so that the
    difference of the fake and the real logit is the spatial average of the class activation map

    .. math:: h_{yx} = \sum_c (w^{fake}_c - w^{real}_c) f_{cyx} + b^{fake} - b^{real}

    Nothing is scaled or clipped. A detector has its own map, see
    :meth:`~tokd_lightning.models.detectors.Detector.heat_map`.

    Args:
        student: The student or detector; put into ``eval()``.

    Source:
        B. Zhou et al., "Learning deep features for discriminative localization", CVPR 2016.
    """

    def __init__(self, student: Student | Detector) -> None:
        super().__init__()
        self.student = student
        if isinstance(student, Detector):
            student.keeps_auxiliary = student.has_heat_map  # a map may be among them
        self.eval()

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Classify normalised images.

        Args:
            image: ``(B, 3, S, S)``.

        Returns:
            Logits of real and fake, ``(B, 2)``, and heatmaps, ``(B, S / 32, S / 32)``.
        """
        output = self.student(image)
        if isinstance(self.student, Detector):
            return output.logits, self.student.heat_map(output)
        weight, bias = self.student.classifier.weight, self.student.classifier.bias
        towards_fake = (weight[1] - weight[0])[None, :, None, None]
        return output.logits, (output.maps[32] * towards_fake).sum(1) + (bias[1] - bias[0])


def to_onnx(
    network: nn.Module,
    size: int,
    about: Mapping[str, Any] | None = None,
    batch: int | None = None,
) -> bytes:
    """Export a network of images to ONNX.

    Args:
        network: Maps ``(B, 3, size, size)`` to the outputs named in :data:`OUTPUTS`, or to the
            first only.
        size: Side of the images in pixels.
        about: Stored in the file's metadata, as JSON.
        batch: Fixed batch size; None allows any.

    Raises:
        TokdError: The extra ``[deploy]`` is not installed, or the network supports only one batch
            size.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    network.eval()
    example = torch.zeros(batch or 2, 3, size, size)
    any_number = {0: torch.export.Dim("batch", min=1)}
    with torch.no_grad(), quiet():
        output = network(example)
        program: Any = torch.onnx.export(
            network,
            (example,),
            input_names=[INPUT],
            output_names=list(OUTPUTS[: len(output)] if isinstance(output, tuple) else OUTPUTS[:1]),
            dynamic_shapes=None if batch else (any_number,),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
    model = program.model_proto
    if not batch and not model.graph.input[0].type.tensor_type.shape.dim[0].dim_param:
        raise TokdError("this network cannot be exported to ONNX for batches of any size")
    forget_the_machine(model.graph)
    for key, value in (about or {}).items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, json.dumps(value)
    content: bytes = model.SerializeToString()
    return content


def to_safetensors(student: nn.Module, about: Mapping[str, Any] | None = None) -> bytes:
    """Return the weights of S_B and G_Sc, ``backbone.…`` and ``classifier.…``, as file content.

    Args:
        student: The student.
        about: Stored in the file's header, as JSON.
    """
    from safetensors.torch import save

    state = {key: value.detach().cpu().contiguous() for key, value in student.state_dict().items()}
    return save(state, {key: json.dumps(value) for key, value in (about or {}).items()})


def from_safetensors(file: Path, network: Mapping[str, Any]) -> Deployed:
    """Rebuild a student from its weights.

    Args:
        file: File with the content that :func:`to_safetensors` returned.
        network: Its ``spec``, for :func:`~tokd_lightning.models.rebuild.rebuild`.

    Raises:
        TokdError: The file does not hold the weights of that network.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        student: Any = rebuild(network)
        student.load_state_dict(load_file(file))
    except (SafetensorError, RuntimeError, TypeError) as error:
        raise TokdError(f"{file} does not hold the recorded network: export again") from error
    return Deployed(student)


def forget_the_machine(graph: Any) -> None:
    """Remove the exporter's notes from every node: tracebacks with paths of this machine."""
    for part in (graph, *graph.node, *graph.value_info, *graph.initializer, *graph.input):
        part.doc_string = ""
        del part.metadata_props[:]
    for output in graph.output:
        output.doc_string = ""
        del output.metadata_props[:]


def _need(*packages: str) -> None:
    for package in packages:
        try:
            import_module(package)
        except ImportError as error:
            raise TokdError(f"--format onnx needs {package}: {EXTRA}") from error


@contextlib.contextmanager
def quiet() -> Any:
    """Suppress the exporter's log messages, warnings and prints."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

"""Static int8 quantisation of an exported student, and the gate that it must pass."""

import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from tokd_lightning.deploy.engine import onnx_session, softmax
from tokd_lightning.deploy.networks import INPUT, forget_the_machine, quiet
from tokd_lightning.deploy.record import FILES
from tokd_lightning.deploy.validation import Validation
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import VIDEO, binary_metrics

LIMITS = {
    "auc_change": 0.002,
    "verdicts_turned": 0.01,
    "mean_difference": 0.02,
    "heat_map": 1e-3,
    "convolutions": 0.9,
}
"""Largest change of AUC, share of verdicts that differ, mean absolute difference of P(fake) and
difference between the heatmap's mean and that of the logits; least share of the convolutions that
run on unsigned 8-bit activations."""
WORTH = 1.2
"""Speed relative to float below which int8 is not worth having."""
_CALIBRATED, _JUDGED = 256, 4000
_REPEATS, _SECONDS = 15, 20.0
_CONVOLUTIONS = ("Conv", "FusedConv", "ConvInteger", "NhwcFusedConv", "QLinearConv")

Pictures = npt.NDArray[np.float32]


class Halves(NamedTuple):
    """Row numbers of validation frames: some to calibrate on, those of other videos to judge by."""

    calibration: list[int]
    judged: list[int]


class Quantised(NamedTuple):
    """An int8 network: the file's content and the figures of the gate, for ``model.json``."""

    content: bytes
    gate: dict[str, Any]


def quantise_checked(content: bytes, known: Validation, threshold: float, size: int) -> Quantised:
    """Quantise an ONNX file on half of the validation videos, and check it on the other half.

    Args:
        content: The float network, as :func:`~tokd_lightning.deploy.networks.to_onnx` writes it.
        known: The validation split.
        threshold: P(fake) above which a frame is classified as fake.
        size: Side of the network's input.

    Raises:
        TokdError: The validation frames are missing or too few, a package is missing, or the int8
            network fails the gate; the message has the figures.
    """
    if known.frames is None or known.data is None:
        raise TokdError(
            f"--format onnx-int8 is calibrated and checked on validation frames: {known.said}"
        )
    halves = split(known.frames)
    calibration = np.concatenate(list(_images(known, halves.calibration)))
    made = quantise(content, calibration)
    gate = _judge(content, made, known, halves, threshold)
    videos = known.frames[VIDEO].drop_duplicates()
    gate |= {
        "calibration": {
            "frames": len(calibration),
            "videos": len(known.frames.loc[halves.calibration, VIDEO].drop_duplicates()),
            "of_videos": len(videos),
        },
        "convolutions": coverage(made),
        "speed": round(speed(content, made, size), 2),
        "limits": LIMITS,
    }
    if failed := failures(gate):
        raise TokdError(
            f"the int8 network fails its check on {gate['frames']} validation frames: "
            f"{'; '.join(failed)}"
        )
    return Quantised(made, gate)


def split(frames: pd.DataFrame) -> Halves:
    """Split validation frames by video, within each class, into calibration and check.

    Args:
        frames: Rows of the split, numbered from 0.

    Raises:
        TokdError: A class has fewer than two videos.
    """
    keys = frames.groupby(VIDEO, sort=False, dropna=False, observed=True).ngroup()
    halves: tuple[list[int], list[int]] = ([], [])
    for label in (0, 1):
        videos = keys[frames["label"] == label].unique()
        if len(videos) < 2:
            raise TokdError(
                f"int8 needs two validation videos of each class, one to calibrate on and one to "
                f"check: there are {len(videos)} {'fake' if label else 'real'} ones"
            )
        for half in (0, 1):
            halves[half].extend(np.flatnonzero(keys.isin(videos[half::2])).tolist())
    calibration, judged = (np.sort(np.array(half)) for half in halves)
    return Halves(_spread(calibration, _CALIBRATED), _spread(judged, _JUDGED))


def _spread(rows: npt.NDArray[Any], count: int) -> list[int]:
    chosen = np.linspace(0, len(rows) - 1, min(count, len(rows))).round().astype(int)
    spread: list[int] = rows[chosen].tolist()
    return spread


def quantise(content: bytes, images: Pictures) -> bytes:
    """Quantise a network statically: 8-bit weights per channel, unsigned 8-bit activations.

    The layers after the last one that both outputs share, which is the classifier and the class
    activation map, stay in float: the mean of the heatmap stays the difference of the logits. So
    does what comes before the first convolution, a transform of the image such as SPSL's phase.
    A first convolution of stride 2 is rewritten, see :func:`fold_stride`.

    Args:
        content: The float network.
        images: Normalised images to calibrate on, ``(N, 3, S, S)``.

    Raises:
        TokdError: ONNX or ONNX Runtime is not installed, or cannot quantise the network.
    """
    try:
        import onnx
        from onnxruntime import quantization
    except ImportError as error:
        raise TokdError(
            f'--format onnx-int8 needs {error.name}: pip install "tokd-lightning[train]"'
        ) from error

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc]  # untyped package
        """Images, one by one."""

        def __init__(self) -> None:
            self.left = iter(images)

        def get_next(self) -> dict[str, Pictures] | None:
            image = next(self.left, None)
            return None if image is None else {INPUT: image[None]}

    model = onnx.load_from_string(content)
    fold_stride(model.graph)
    kept = {entry.key: entry.value for entry in model.metadata_props}
    with tempfile.TemporaryDirectory() as folder, quiet():
        file = Path(folder) / "int8.onnx"
        try:
            quantization.quantize_static(
                model,
                str(file),
                Reader(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
                nodes_to_exclude=head(model.graph) + transforms(model.graph),
            )
        except Exception as error:  # its exceptions have no common class
            said = " ".join(str(error).split())[:160]
            raise TokdError(f"ONNX Runtime cannot quantise this network: {said}") from error
        made = onnx.load(file)
    forget_the_machine(made.graph)
    del made.metadata_props[:]
    for key, value in kept.items():
        made.metadata_props.add(key=key, value=value)
    quantised: bytes = made.SerializeToString()
    return quantised


def fold_stride(graph: Any) -> None:
    """Rewrite a convolution of the image with stride 2 as one of stride 1 on 2 x 2 blocks.

    The sums stay the same. ONNX Runtime gathers the inputs of an 8-bit convolution
    channel by channel: with 12 in place of 3, that of ResNet18-T takes half of the time.

    Args:
        graph: The float network, of a fixed input size; changed in place. One whose image goes
            elsewhere first stays as it is.
    """
    from onnx import helper, numpy_helper

    readers = [node for node in graph.node if INPUT in node.input]
    size = graph.input[0].type.tensor_type.shape.dim[2].dim_value
    if [node.op_type for node in readers] != ["Conv"] or not size:
        return
    (conv,) = readers
    given = {one.name: helper.get_attribute_value(one) for one in conv.attribute}
    weight = next((one for one in graph.initializer if one.name == conv.input[1]), None)
    pads = given.get("pads", [0] * 4)
    plain = given.get("group", 1) == 1 and given.get("dilations", [1, 1]) == [1, 1]
    if weight is None or given.get("strides") != [2, 2] or not plain or len(set(pads)) > 1:
        return
    kernel = numpy_helper.to_array(weight)
    outputs, channels, side, other = kernel.shape
    if side != other or side % 2 == 0 or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return
    before, odd, across = (pads[0] + 1) // 2, size % 2, (side + 1) // 2
    made = (size + 2 * pads[0] - side) // 2 + 1
    after = made + across - 1 - before - (size + odd) // 2
    if after < 0:
        return
    first = pads[0] % 2  # the row and column of zeros comes where it aligns the blocks
    even = np.pad(kernel, [(0, 0)] * 2 + [(first, 1 - first)] * 2)
    blocks = even.reshape(outputs, channels, across, 2, across, 2).transpose(0, 3, 5, 1, 2, 4)
    folded = np.ascontiguousarray(blocks.reshape(outputs, 4 * channels, across, across))
    weight.CopyFrom(numpy_helper.from_array(folded, "folded_weight"))
    place = list(graph.node).index(conv)
    new = helper.make_node(
        "Conv", ["folded", weight.name, *conv.input[2:]], list(conv.output), conv.name,
        kernel_shape=[across, across], pads=[before, before, after, after],
    )  # fmt: skip
    ends = numpy_helper.from_array(np.array([0] * 6 + [odd] * 2), "folded_pads")
    graph.initializer.append(ends)
    pad = helper.make_node("Pad", [INPUT, "folded_pads"], ["padded"], "pad_to_blocks")
    fold = helper.make_node("SpaceToDepth", ["padded"], ["folded"], "fold", blocksize=2)
    graph.node.remove(conv)
    for node in (new, fold, pad):
        graph.node.insert(place, node)


def head(graph: Any) -> list[str]:
    """Return the names of the nodes that contribute to only one of a graph's outputs."""
    makers = {name: node for node in graph.node for name in node.output}
    reached = []
    for output in graph.output:
        names: set[str] = set()
        left = [output.name]
        while left:
            node = makers.get(left.pop())
            if node is not None and node.name not in names:
                names.add(node.name)
                left.extend(node.input)
        reached.append(names)
    shared = set.intersection(*reached)
    return [node.name for node in graph.node if node.name not in shared]


def transforms(graph: Any) -> list[str]:
    """Return the names of a graph's nodes that no convolution comes before, but convolutions."""
    found: list[str] = []
    convolved: set[str] = set()
    for node in graph.node:
        if node.op_type == "Conv" or not convolved.isdisjoint(node.input):
            convolved.update(node.output)
        else:
            found.append(node.name)
    return found


def _images(known: Validation, rows: list[int]) -> Iterator[Pictures]:
    for batch in known.batches(rows):
        yield batch["image"].numpy()


@torch.inference_mode()
def _judge(
    content: bytes, made: bytes, known: Validation, halves: Halves, threshold: float
) -> dict[str, Any]:
    """Compare the two networks on the frames that were not calibrated on."""
    sessions = onnx_session(content), onnx_session(made)
    p_fake: list[list[npt.NDArray[np.float64]]] = [[], []]
    rows: list[int] = []
    apart = [0.0, 0.0]
    for batch in known.batches(halves.judged):
        if not len(batch["image"]):
            continue
        rows += batch["index"].tolist()
        for n, (session, found) in enumerate(zip(sessions, p_fake, strict=True)):
            logits, heat = session.run(None, {INPUT: batch["image"].numpy()})
            found.append(softmax(logits)[:, 1])
            means = heat.astype(np.float64).mean((1, 2)) - (logits[:, 1] - logits[:, 0])
            apart[n] = max(apart[n], float(np.abs(means).max()))
    assert known.frames is not None
    label = known.frames["label"].to_numpy(np.int64)[rows]
    if len(np.unique(label)) < 2:
        raise TokdError("int8 is checked on frames of both classes: those of one cannot be read")
    before, after = (np.concatenate(found) for found in p_fake)
    auc = [binary_metrics(label, scores)["auc"] for scores in (before, after)]
    difference = np.abs(after - before)
    return {
        "frames": len(rows),
        "videos": len(known.frames.loc[rows, VIDEO].drop_duplicates()),
        "auc": [round(value, 6) for value in auc],
        "auc_change": round(auc[1] - auc[0], 6),
        "verdicts_turned": float(((before > threshold) != (after > threshold)).mean()),
        "mean_difference": float(difference.mean()),
        "largest_difference": float(difference.max()),
        # Detectors have maps of their own, whose mean is not that difference in float either.
        "heat_map": apart[1] if apart[0] <= LIMITS["heat_map"] else 0.0,
    }


def failures(gate: Mapping[str, Any]) -> list[str]:
    """Return what fails of the gate, with the figure and the limit."""
    said = {
        "auc_change": ("AUC changes by {:.2%}", "{:.1%} is allowed"),
        "verdicts_turned": ("{:.1%} of the verdicts differ", "{:.0%} are allowed"),
        "mean_difference": ("P(fake) differs by {:.3f} on average", "{:g} is allowed"),
        "heat_map": ("the heat map's mean is {:.1e} off the logits", "{:g} is allowed"),
        "convolutions": (
            "{:.0%} of the convolutions run on unsigned 8-bit activations", "{:.0%} must"
        ),
    }  # fmt: skip
    failed = []
    for key, (what, limit) in said.items():
        value, allowed = abs(gate[key]), LIMITS[key]
        if not (value >= allowed if key == "convolutions" else value <= allowed):
            failed.append(f"{what.format(value)}, {limit.format(allowed)}")
    return failed


def gate_line(gate: Mapping[str, Any], size: int) -> str:
    """Return the figures of a passed gate in a line."""
    return (
        f"{FILES['onnx-int8']}: {size / 1e6:.1f} MB, {gate['speed']:.1f} times the speed of float; "
        f"on {gate['frames']} validation frames of {gate['videos']} videos that it was not "
        f"calibrated on AUC {gate['auc'][0]:.2%} -> {gate['auc'][1]:.2%}, "
        f"{gate['verdicts_turned']:.2%} of the verdicts turned, P(fake) off by "
        f"{gate['mean_difference']:.4f} on average"
    )


def coverage(content: bytes) -> float:
    """Return the share of convolutions that ONNX Runtime runs on unsigned 8-bit activations.

    Signed ones pass every check of the scores, and are hardly faster than float on x86.

    Args:
        content: The int8 network.
    """
    import onnx
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        graph = onnx.load(options.optimized_model_filepath).graph
    types = {array.name: array.data_type for array in graph.initializer}
    nodes = [node for node in graph.node if node.op_type in _CONVOLUTIONS]
    unsigned = [
        node.op_type == "QLinearConv" and types.get(node.input[2]) == onnx.TensorProto.UINT8
        for node in nodes
    ]
    return sum(unsigned) / len(unsigned) if unsigned else 0.0


def speed(content: bytes, made: bytes, size: int) -> float:
    """Time both networks on one thread, interleaved, and return how much faster int8 is.

    Args:
        content: The float network.
        made: The int8 network.
        size: Side of the images in pixels.
    """
    sessions = [onnx_session(one, threads=1) for one in (content, made)]
    image = np.random.default_rng(0).normal(size=(1, 3, size, size)).astype(np.float32)
    for session in sessions:
        session.run(None, {INPUT: image})
    ratios: list[float] = []
    until = time.monotonic() + _SECONDS
    while len(ratios) < _REPEATS and (not ratios or time.monotonic() < until):
        marks = [time.process_time()]
        for session in sessions:
            session.run(None, {INPUT: image})
            marks.append(time.process_time())
        ratios.append((marks[1] - marks[0]) / max(marks[2] - marks[1], 1e-9))
    return median(ratios)

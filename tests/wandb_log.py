"""Reads back what an offline W&B run has written: a LevelDB log of protobuf records."""

import contextlib
import json
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from google.protobuf.message import DecodeError
from wandb.proto import wandb_internal_pb2 as proto

BLOCK, HEAD = 32768, 7


class Logged(NamedTuple):
    """What W&B would show: the run, and the last word on config and summary."""

    run: Any
    config: dict[str, Any]
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    metrics: dict[str, Any]
    exit: int | None


def records(path: Path) -> Iterator[Any]:
    """Yield the records of a ``.wandb`` file."""
    data, at, parts = path.read_bytes(), HEAD, b""
    while at + HEAD <= len(data):
        if BLOCK - at % BLOCK < HEAD:
            at += BLOCK - at % BLOCK
            continue
        _, size, kind = struct.unpack("<IHB", data[at : at + HEAD])
        if at + HEAD + size > len(data):
            return  # still being written
        parts += data[at + HEAD : at + HEAD + size]
        at += HEAD + size
        if kind in (1, 4):  # a whole record, or the last part of one
            record = proto.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record


def read(folder: Path) -> Logged:
    """Read the one offline run of a run's folder, once W&B's process has written its end."""
    [path] = folder.glob("wandb/offline-run-*/*.wandb")
    for _ in range(100):
        with contextlib.suppress(DecodeError):  # of a record that is still being written
            logged = _read(path)
            if logged.exit is not None:
                return logged
        time.sleep(0.1)
    raise AssertionError(f"{path} has no end")


def _read(path: Path) -> Logged:
    run, config, summary, history, metrics, code = None, {}, {}, [], {}, None
    for record in records(path):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            run = run or record.run
            _update(config, record.run.config.update)
        elif kind == "config":
            _update(config, record.config.update)
        elif kind == "summary":
            _update(summary, record.summary.update)
        elif kind == "history":
            history.append(_update({}, record.history.item))
        elif kind == "metric":
            metrics[record.metric.name or record.metric.glob_name] = record.metric
        elif kind == "exit":
            code = record.exit.exit_code
    return Logged(run, config, summary, history, metrics, code)


def _update(values: dict[str, Any], items: Any) -> dict[str, Any]:
    for item in items:
        *above, last = item.nested_key or [item.key]
        inner = values
        for key in above:
            inner = inner.setdefault(key, {})
        inner[last] = json.loads(item.value_json)
    return values

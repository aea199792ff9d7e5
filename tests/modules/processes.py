"""Starting the processes of a data-parallel run, and waiting for them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

DEADLINE = 240


def started(command, **environment):
    """Start a process on one thread, the first of a group of its own."""
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def finish(processes, seconds=DEADLINE):
    """Wait for processes, but never for ever; return what they said."""
    said = []
    try:
        for process in processes:
            said.append(process.communicate(timeout=seconds)[0])
    except subprocess.TimeoutExpired:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        said += [process.communicate()[0] for process in processes]
        pytest.fail(f"not done after {seconds} s: a deadlock?\n" + "\n".join(said)[-4000:])
    return "\n".join(said)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def one_and_two(alone, out, script, *arguments, numbered="LOCAL_RANK"):
    """Return what one process ends with, and each of two that run a script beside it.

    Args:
        alone: Does in this process what the script does.
        out: Where the script of process N leaves ``N.pt``.
        script: Its name, in this folder.
        *arguments: Its arguments.
        numbered: Which variable tells the two apart; the other is 0.
    """
    command = [sys.executable, str(Path(__file__).with_name(script)), *map(str, arguments)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    place |= {"LOCAL_RANK": "0", "NODE_RANK": "0"}
    ranks = [started(command, **{**place, numbered: str(rank)}) for rank in range(2)]
    try:
        one = alone()
    finally:
        said = finish(ranks)
    # gloo can abort when processes part, after all work is done: only what they wrote counts.
    files = [out / f"{rank}.pt" for rank in range(2)]
    assert all(file.is_file() for file in files), said[-4000:]
    return one, *(torch.load(file, weights_only=True) for file in files)

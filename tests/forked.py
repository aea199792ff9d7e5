"""Runs command lines of tokd, each in a child of one process that has imported everything.

Reads one case a line from standard input, as JSON with `args`, `cwd` and `limit`, and writes one
result a line: `code` (None: killed after `limit` seconds), `said` (standard error), `seconds`.
"""

import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any


def main() -> None:
    """Run all."""
    import torch

    torch.set_num_threads(1)
    for line in sys.stdin:
        print(json.dumps(run(**json.loads(line))), flush=True)


def run(args: list[str], cwd: str, limit: float) -> dict[str, Any]:
    """Run one command line in a child of its own session."""
    started = time.monotonic()
    said = Path(cwd) / ".stderr"
    child = os.fork()
    if child == 0:
        _become(args, cwd, said)
    code = _wait(child, started + limit)
    text = said.read_text(errors="replace")
    said.unlink()
    Path(cwd, ".stdout").unlink()
    return {"code": code, "said": text, "seconds": round(time.monotonic() - started, 2)}


def _become(args: list[str], cwd: str, said: Path) -> None:
    os.setsid()
    os.chdir(cwd)
    for name, number in ((".stdout", 1), (str(said), 2)):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    code = 70
    try:
        from tokd_lightning.cli import main as tokd

        sys.argv = ["tokd", *args]
        code = tokd(args)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code or 0)


def _wait(child: int, until: float) -> int | None:
    while time.monotonic() < until:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return None


if __name__ == "__main__":
    main()

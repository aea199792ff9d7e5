import re
import shlex
from pathlib import Path

import pytest
from test_experiments import parse

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/processes.md").read_text()
BLOCKS = re.findall(r"^```(?:bash)?\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
COMMANDS = [
    shlex.split(line.partition(" fit ")[2].removesuffix(" &"))
    for block in BLOCKS
    for line in block.splitlines()
    if " fit " in line
]


def test_the_three_ways_to_start_processes_are_shown():
    assert {line.split()[0] for line in BLOCKS[0].splitlines()} == {"tokd", "torchrun", "srun"}


@pytest.mark.thinned(3)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_of_the_page_parses(command, tmp_path):
    place = command.index("--config") + 1
    command[place] = str(ROOT / command[place])
    assert parse("fit", *command, "--runs", tmp_path).run.folder.parent == tmp_path

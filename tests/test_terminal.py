"""Words of tables stay whole on a terminal of 80 columns."""

import io

import pytest
from rich.console import Console
from rich.table import Table

from tokd_lightning.cli import main
from tokd_lightning.distillation.catalogue import METHODS
from tokd_lightning.terminal import fold_paths, keep_words
from tokd_lightning.verify.counts import counts_table


def printed(table, width=80):
    console = Console(file=io.StringIO(), width=width)
    console.print(keep_words(table, console))
    lines = console.file.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return " ".join(" ".join(lines).split())


def test_the_methods_are_whole_in_80_columns(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["methods", "--student", "test_resnet", "--teacher", "test_resnet"]) == 0
    out = capsys.readouterr().out
    words = set(out.replace("│", " ").replace("┃", " ").split())
    for method in METHODS:
        assert {*method.__name__.split(), *method.citation.split()} <= words
        assert set(method.formula.split()) <= words


def test_the_counts_of_an_ff_tree_are_whole_in_80_columns():
    names = ["real", "Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"]
    row = {"dataset": "ffpp", "quality": "c23", "kind": "faces", "videos": 720, "frames": 23040}
    counts = [row | {"split": s, "method": m} for s in ("train", "val", "test") for m in names]
    text = printed(counts_table(counts))
    for name in (*names, "quality", "files", "split", "train"):
        assert name in text
    assert text.count("(23040)") == 15


@pytest.mark.parametrize("width", [200, 60])
def test_a_table_is_left_alone_where_it_fits_or_cannot_fit(width):
    table = Table("a", "b")
    table.add_row("x" * 50, "y" * 50)
    text = printed(table, width)
    assert ("x" * 50 in text) == (width == 200)


def test_paths_break_after_a_slash_and_words_between_them_stay():
    where = "manipulated_sequences/Deepfakes/c23/videos/000_001.mp4"
    table = Table("what", "where", box=None)
    table.add_column("bar", no_wrap=True)
    table.add_row("a sentence that takes room", f"{where} (12 frames)", "█████ ░░░░░ 0.5")
    console = Console(file=io.StringIO(), width=60)
    console.print(keep_words(table, console))
    out = console.file.getvalue()
    for part in (
        "manipulated_sequences/",
        "videos/",
        "000_001.mp4",
        "(12",
        "frames)",
        "█████ ░░░░░ 0.5",
    ):
        assert part in out
    assert fold_paths(where, 30) == "manipulated_sequences/\nDeepfakes/c23/videos/\n000_001.mp4"
    assert fold_paths("a/b and c", 1) == "a/\nb and c"

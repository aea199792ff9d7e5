"""Messages are in the words that CONTRIBUTING.md asks for."""

import ast
import re

from pages import ROOT

_SECTION = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").split("## Language")[1]
_TABLE = re.search(r"\| Instead of \|.*?\n\n", _SECTION, re.DOTALL)[0]
WORDS = [
    word
    for row in _TABLE.splitlines()[2:]
    if row and "docstrings" not in row
    for word in re.sub(r" …$", "", row.split("|")[1].strip().rstrip("…").strip()).split(", ")
]


def messages(file):
    """Yield line and text of every string that is not a docstring."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    described = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    docs = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, described) and node.body and isinstance(node.body[0], ast.Expr)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.lineno, node.value


def test_no_message_has_a_word_that_contributing_replaces():
    assert {"anew", "beside", "is not offered", "for want of"} <= set(WORDS)
    barred = re.compile("|".join(rf"\b{re.escape(word)}\b" for word in WORDS))
    assert barred.search("export it anew")
    found = [
        (str(file.relative_to(ROOT)), line, text)
        for file in sorted((ROOT / "tokd_lightning").rglob("*.py"))
        for line, text in messages(file)
        if barred.search(text)
    ]
    assert found == []

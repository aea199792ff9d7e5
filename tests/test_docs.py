"""README and docs/ against the program: commands, options, links, defaults, messages."""

import ast
import inspect
import re
import shlex

import lightning.pytorch as pl
import pytest
import torch
import yaml
from lightning.pytorch.cli import LightningArgumentParser
from pages import CHAPTERS, MEASUREMENTS, PAGES, README, ROOT, blocks, commands

from tokd_lightning.cli import parser
from tokd_lightning.data.celebdf import CelebDFDataModule
from tokd_lightning.data.datamodule import FrameDataModule
from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.manifest_table import ManifestDataModule
from tokd_lightning.distillation import RotationOptimizer
from tokd_lightning.distillation.catalogue import METHODS, _made, _shapes, extra_parameters
from tokd_lightning.modules import DistillModule, TeacherModule
from tokd_lightning.modules.detection import DetectionModule
from tokd_lightning.training.arguments import add_arguments
from tokd_lightning.training.help import HELP

TEXTS = {page: page.read_text(encoding="utf-8") for page in PAGES}
TOLD = [README, *CHAPTERS]  # measurements tell what was done, with places of their own
COMMANDS = [(page.name, command[1:]) for page in TOLD for command in commands(TEXTS[page])]
# A method's name in the measured table -> its section.
ALIASES = {name.__name__: name.__name__ for name in METHODS} | {
    "AT": "AttentionTransfer",
    "SP": "SimilarityPreserving",
}
# What stands before an argument's name on the command line, the longest first -> who takes it.
TAKERS = {
    "model.distiller": METHODS,
    "model.rotation_optimizer": (RotationOptimizer,),
    "model.rotation_scheduler": (
        torch.optim.lr_scheduler.StepLR,
        torch.optim.lr_scheduler.OneCycleLR,
    ),
    "model.lr_scheduler": (
        torch.optim.lr_scheduler.StepLR,
        torch.optim.lr_scheduler.OneCycleLR,
    ),
    "model.optimizer": (torch.optim.Adam,),
    "model": (TeacherModule, DistillModule, DetectionModule),
    "data": (FrameDataModule, FFPPDataModule, CelebDFDataModule, ManifestDataModule),
    "trainer": (pl.Trainer,),
}


def arguments(of):
    return inspect.signature(of).parameters


def takers(option):
    """Return who takes an option such as ``--model.distiller.dim``."""
    group, _, name = option.removeprefix("--").rpartition(".")
    return [taker for taker in TAKERS.get(group, ()) if name in arguments(taker)]


def test_there_are_commands_to_try():
    first = {command[0] for page, command in COMMANDS if page == "README.md"}
    assert first >= {"fit", "test", "prepare", "verify", "show", "export", "detect"}


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=lambda v: str(v)[:60])
def test_every_command_is_one(page, command):
    if command[0] not in HELP:
        assert parser().parse_args(command).run
        return
    experiment = command[command.index("--config") + 1]
    assert experiment.startswith("runs/") or (ROOT / experiment).is_file()


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_every_option_of_a_fit_is_one(page):
    named = set(re.findall(r"--(?:model|data|trainer)\.[\w.]+\w", TEXTS[page]))
    groups = {f"--{group}" for group in TAKERS} | {"--model.help", "--data.help"}
    assert {option for option in named - groups if not takers(option)} == set()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_page_leads_somewhere(page):
    for target, anchor in re.findall(r"\]\((?!http)([^)#\s]*)#?([^)]*)\)", TEXTS[page]):
        there = (page.parent / target).resolve() if target else page
        assert there.exists(), target
        if anchor:
            assert anchor in {slug(h) for h in headings(there.read_text(encoding="utf-8"))}


def headings(text):
    return re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S), re.M)


def slug(heading):
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


@pytest.mark.parametrize("page", TOLD, ids=lambda page: page.name)
def test_every_target_of_make_is_one(page):
    makefile = (ROOT / "Makefile").read_text()
    targets = set(re.findall(r"^([\w-]+):", makefile, re.M))
    targets |= {f"reproduce-{what}" for what in ("figure3", "figure4", "…")}
    targets |= {f"reproduce-table{n}" for n in range(1, 8)}
    code = "\n".join([*blocks(TEXTS[page]), *re.findall(r"`([^`\n]+)`", TEXTS[page])])
    for line in re.findall(r"^make ([^#\n]*)", code, re.M):
        named = [word for word in line.split() if "=" not in word and word[0] != "-"]
        assert set(named) <= targets


def test_every_page_is_in_the_site_s_list():
    listed = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in [*CHAPTERS, *MEASUREMENTS, *(ROOT / "docs/api").glob("*.md")]:
        assert page.relative_to(ROOT / "docs").as_posix() in listed


def test_the_readme_s_python_runs_as_it_stands(capsys):
    _, quickstart = blocks(TEXTS[README], "python")  # test_detector runs the other
    assert len(quickstart.splitlines()) <= 20
    torch.manual_seed(0)
    scope = {}
    exec(compile(quickstart, "README.md", "exec"), scope)
    *steps, score = capsys.readouterr().out.splitlines()
    assert [step.split(" ", 1)[0] for step in steps] == ["0", "1", "2"]
    assert set(ast.literal_eval(steps[0][2:])) == {"ce", "rgb", "frequency"}
    assert 0 < float(score.removeprefix("P(fake): ")) < 1
    drift = scope["tokd"].rotation.drift()
    assert all(value > 0 for name, value in drift.items() if name.startswith("distance_"))


METHODS_PAGE = TEXTS[ROOT / "docs/methods.md"]


def test_the_table_of_methods_is_that_of_the_program():
    shapes = [_shapes(name, 299) for name in ("resnet18_thin", "xception")]
    rows = []
    for method in METHODS:
        made = _made(method, *shapes)
        taps = ", ".join(map(str, made.taps)) or "–"
        weight = ", ".join(f"{w:g}" for w in sorted(set(made.weights.values()))) or "–"
        extra = f"{extra_parameters(made) / 1e6:.3f}"
        cells = (method.__name__, method.citation, taps, weight, extra)
        rows.append("| " + " | ".join(cells) + " |")
    assert "\n".join(rows) in METHODS_PAGE


@pytest.mark.parametrize("method", METHODS, ids=lambda method: method.__name__)
def test_a_method_s_section_has_its_arguments_with_their_defaults(method):
    [section] = re.findall(rf"^## {method.__name__}\n(.*?)(?=^## )", METHODS_PAGE, re.M | re.S)
    [line] = re.findall(r"^Arguments: (.*)$", section, re.M)
    own = list(arguments(method).values())[2:]
    said = dict(code.partition(": ")[::2] for code in re.findall(r"`([^`]+)`", line))
    assert list(said) == [argument.name for argument in own]
    for argument in own:
        default = argument.default
        if said[argument.name]:
            default = list(default) if isinstance(default, tuple) else default
            assert yaml.safe_load(said[argument.name]) == default
        else:
            assert argument.kind is argument.VAR_KEYWORD or callable(default)
    for part in re.findall(r"`(\w+\.yaml)`", section):
        parts = ROOT / "configs/distillers"
        assert (
            f".{method.__name__}" in f".{yaml.safe_load((parts / part).read_text())['class_path']}"
        )


def test_every_file_of_a_method_is_in_its_section():
    parts = {part.name for part in (ROOT / "configs/distillers").glob("*.yaml")}
    assert parts <= set(re.findall(r"`(\w+\.yaml)`", METHODS_PAGE))


CHOICES = re.findall(
    r"`(--[\w.]+) ([^`]+)`(?: \((\w+)\))?",
    "\n".join(re.findall(r"^\|.*\|$", TEXTS[ROOT / "docs/paper.md"], re.M)),
)


def experiment(name):
    """Return an experiment with its blocks read in, as option -> value, and its class names."""
    file = ROOT / "experiments" / f"{name}.yaml"

    def walk(value, key):
        if isinstance(value, str) and value.endswith(".yaml"):
            value = yaml.safe_load((file.parent / value).read_text())
        if isinstance(value, dict):
            for inner, held in value.items():
                yield from walk(held, key if inner == "init_args" else f"{key}.{inner}")
        else:
            yield f"-{key}".replace("-.", "--"), value

    return dict(walk(yaml.safe_load(file.read_text()), ""))


@pytest.mark.parametrize(("option", "value", "whose"), CHOICES)
def test_what_the_paper_leaves_open_is_as_the_page_says(option, value, whose):
    wanted = yaml.safe_load(value)
    own = LightningArgumentParser()
    add_arguments(own)
    files = {"teacher": "ffpp_teacher", "celebdf": "celebdf_res18t"}.get(whose, "ffpp_res18t")
    shipped = experiment(files)
    if option == "--monitor":
        assert own.get_defaults().monitor == wanted
        return
    found = takers(option)
    defaults = {arguments(taker)[option.rpartition(".")[2]].default for taker in found}
    assert found
    assert wanted in ({shipped[option]} if option in shipped else defaults)
    for config in (shipped, experiment("ffpp_teacher")):
        assert config.get(option, wanted) == wanted


def test_there_is_something_that_the_paper_leaves_open():
    assert len(CHOICES) > 20
    assert parser().parse_args(shlex.split("prepare ffpp FF++ --out x")).margin == 1.3


def templates():
    """Return what the package can say, with … for each value put in."""
    for file in sorted((ROOT / "tokd_lightning").rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (p.value if isinstance(p, ast.Constant) else "…" for p in node.values)
                yield "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def test_every_message_of_the_faq_is_one_of_the_program():
    told = [re.sub("…+", "…", text) for text in templates()]
    page = TEXTS[ROOT / "docs/faq.md"]
    said = [line for block in blocks(page, "text") for line in block.splitlines()]
    assert len(said) > 30
    unknown = []
    for line in said:
        text = re.sub("…+", "…", line.removeprefix("tokd: "))
        if not any(text in template or text.rstrip("…") in template for template in told):
            unknown.append(line)
    assert unknown == []


def test_every_method_has_its_measured_result():
    sections = dict(
        part.split("\n", 1) for part in TEXTS[ROOT / "docs/methods.md"].split("\n## ")[1:]
    )
    told = {
        name: re.search(r"^Mini-FF\+\+: (.*)", sections[name], re.M)[1] for name in ALIASES.values()
    }
    measured = TEXTS[ROOT / "docs/measurements/methods-mini-ffpp.md"]
    found = dict.fromkeys(told, "")
    for name, auc in re.findall(r"^\| (\w+(?: \w+)?) \| ([\d.± ]+) \|", measured, re.M):
        method, _, branches = name.partition(" ")
        if method in ALIASES:
            found[ALIASES[method]] += auc
            said = {"rgb": f"{auc} with RGB", "both": f"{auc} with both branches"}
            assert said.get(branches, f"AUC {auc}") in told[ALIASES[method]]
    assert {name for name, auc in found.items() if not auc} == {
        name for name, line in told.items() if line == "not measured."
    }

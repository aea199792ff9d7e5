"""Mistakes with the options of a fit, told in one line that names option, cause and way out."""

import sys
import time
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
from test_cli import ROOT, SMALL, TINY_STUDENT

from tokd_lightning.cli import main, parser
from tokd_lightning.errors import TokdError, the_told_one
from tokd_lightning.runs.provenance import versions
from tokd_lightning.training.cli import TokdCLI
from tokd_lightning.training.help import HELP

VANILLA = f"--config={ROOT}/experiments/demo_vanilla.yaml"


def line(capsys):
    error = capsys.readouterr().err
    assert "Traceback" not in error
    [said] = [line for line in error.splitlines() if line.startswith("tokd: ")]
    assert len(said) < 400
    return said


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Modules of the user's own, and a file that holds no weights."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    (tmp_path / "halfwritten.py").write_text("class Net(:\n")
    (tmp_path / "needy.py").write_text("import a_package_that_is_not_there\n")
    (tmp_path / "junk.pth").write_bytes(b"\x80\x02junk")
    (tmp_path / "list.csv").write_text("path,label\n")


@pytest.mark.thinned(3)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        pytest.param(
            ["--model.student=deepseek_vit_412m"],  # patches of 14 px
            "cannot be cut at strides 8, 16 and 32",
            marks=pytest.mark.slow,
        ),
        (["--model.student=resnet18.nosuchtag"], "no network is named resnet18.nosuchtag"),
        (["--model.student=halfwritten.Net"], "halfwritten cannot be imported (invalid syntax"),
        (["--model.student=needy.Net"], "No module named 'a_package_that_is_not_there'"),
        ([*TINY_STUDENT, "--model.pretrained=junk.pth"], "junk.pth is not a file of network"),
        ([*TINY_STUDENT, "--model.pretrained=list.csv"], "list.csv is not a file of network"),
    ],
    ids=lambda value: str(value)[:50],
)
def test_what_a_constructor_raises_is_told_first(options, says, tiny_ffpp, capsys):
    small = [o for o in SMALL if not o.startswith("--log")]
    given = ["fit", VANILLA, f"--data.root={tiny_ffpp}", "--log=none", *small, *options]
    assert main(given) == 2
    assert says in line(capsys)
    assert not Path("runs").exists()


@pytest.mark.thinned(5)
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--data.rooot=x"], "unknown option '--data.rooot' (did you mean --data.root?)"),
        (["--model.optimizer.lrr=1"], "(did you mean --model.optimizer.lr?)"),
        (
            ["--model.student.pretrained=x"],
            "'--model.student.pretrained' (did you mean",
        ),
        (["--trainer.max_epoch=3"], "--trainer.max_epoch=3 (did you mean --trainer.max_epochs?)"),
        (["--dataa.size=3"], "(did you mean --data.size?)"),
        (["--data.methods=Deepfakes"], "--data.methods: expected a list, as '[Deepfakes]'"),
        (["--rerunn"], "--rerunn (did you mean --rerun?)"),
        (["--data.size=abc"], "--data.size: expected an integer, not abc"),
        (
            ["--trainer.max_epochs=soon"],
            "--trainer.max_epochs: expected an integer or null",
        ),
        (
            ["--model.lr_scheduler.total_steps=x"],
            "--model.lr_scheduler.total_steps: expected",
        ),
        (["--data.balance=whole"], "--data.balance: choose from none, repeat_real, half_batch, lo"),
        (["--data.size="], "--data.size: expected an integer, not ''"),
        (["--trainer.max_steps="], "--trainer.max_steps: expected an integer, not ''"),
        (["--data.mean="], "--data.mean: expected a number or a list, not ''"),
        (["--pictures=x"], "--pictures: expected an integer or null, not x"),
        (["--data.num_workers=null"], "--data.num_workers must not be null"),
        (["--data.num_workers=-1"], "--data.num_workers must be a number from 0 on, not -1"),
        (["--data.name=null"], "--data.name must not be null"),
        (["--model.student=null"], "--model.student must not be null"),
        (["--data=Nothing"], "--data: Nothing names no class that can be imported"),
        (["--model.optimizer=torch.optim.Adamm"], "--model.optimizer: torch.optim.Adamm is nei"),
        (["--trainer.callbacks=Nope"], "--trainer.callbacks: Nope is neither a file nor a list"),
        (
            ["--trainer.callbacks=GradientAccumulationScheduler"],
            "--trainer.callbacks: GradientAccumulationScheduler needs scheduling",
        ),
        (["--data.augmentation=[{class_path: Nope}]"], "--data.augmentation: Nope names no class"),
    ],
    ids=str,
)
def test_an_option_is_named_as_it_is_given(options, says, capsys):
    assert main(["fit", VANILLA, *options]) == 2
    assert says in line(capsys)


def test_in_a_yaml_the_block_is_named(tmp_path, capsys):
    text = (ROOT / "experiments/demo_vanilla.yaml").read_text(encoding="utf-8")
    mine = tmp_path / "mine.yaml"
    for old, new, says in (
        ("student:", "studnet:", "unknown option 'studnet' (did you mean student?), in the model"),
        ("interval: step", "interval: 1", "--model: interval: choose from epoch, step, not 1"),
        ("monitor:", "monitr:", "unknown option 'monitr' (did you mean monitor?)"),
        ("model:", "model: [", "--config: not a readable YAML"),
        ("[0.95, 1.05]", "null", "RandomBrightness cannot be made from its options: must be real"),
    ):
        mine.write_text(text.replace("../configs", f"{ROOT}/configs").replace(old, new, 1))
        assert main(["fit", f"--config={mine}"]) == 2
        assert says in line(capsys)
    mine.write_bytes(b"\xff\xfe")
    assert main(["fit", f"--config={mine}"]) == 2
    assert "not UTF-8 text" in line(capsys)


@pytest.mark.parametrize("given", ["--config=--", "--data.size=--"])
@pytest.mark.parametrize("verb", ["fit", "test"])
def test_two_dashes_are_no_value(verb, given, capsys):
    options = [] if given.startswith("--config") else [VANILLA]
    assert main([verb, *options, given]) == 2
    assert f"{given}: -- is not a value" in line(capsys)


def test_options_may_stand_before_the_config(monkeypatch):
    seen = []
    monkeypatch.setattr(
        TokdCLI, "before_instantiate_classes", lambda cli: seen.append(cli.resolved)
    )
    monkeypatch.setattr(TokdCLI, "instantiate_classes", lambda cli: None)
    monkeypatch.setattr(TokdCLI, "_run_subcommand", lambda *_: None)
    options = ["--data.size=150", "--trainer.max_epochs=2", "--model.student=test_resnet"]
    for args in ([VANILLA, *options], [*options, VANILLA], [options[0], VANILLA, *options[1:]]):
        assert main(["fit", *args]) == 0
    assert seen[0] == seen[1] == seen[2]
    assert seen[0]["data"]["init_args"]["size"] == 150
    assert seen[0]["trainer"]["max_epochs"] == 2


def test_a_table_that_does_not_exist_is_named_by_its_command(capsys):
    assert main(["table", "9"]) == 2
    assert line(capsys).startswith("tokd: tokd table '9': choose from 1, 2, 3, 4, 5, 6, 7, beyond")


def test_options_without_a_config_ask_for_one(capsys):
    for options in (["--data.root=x"], ["--model.student=resnet18_thin"], []):
        assert main(["fit", *options]) == 2
        assert "name an experiment: tokd fit --config" in line(capsys)
    for verb in (["inputs"], ["probe", "--out=probe.json"]):
        assert main(verb) == 2
        assert f"name an experiment: tokd {verb[0]} --config" in line(capsys)


def test_the_first_told_error_of_a_chain_is_raised():
    def wrapped():
        try:
            try:
                try:
                    raise OSError("the file is gone")
                except OSError as error:
                    raise TokdError("no such network") from error
            except TokdError as error:
                raise TypeError("cannot build") from error
        except TypeError:
            raise ValueError("invalid value")  # noqa: B904  # the cause stays in __context__ alone

    with pytest.raises(TokdError, match="no such network"), the_told_one():
        wrapped()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["fitt"], "unknown command 'fitt': did you mean fit?"),
        (["prepar", "x"], "did you mean prepare?"),
        (["verify", "x", "--qualty", "c23"], "--qualty c23: did you mean --quality? (see tokd ver"),
        (
            ["detect", "m", "--treshold", "0.5"],
            "did you mean --threshold? (see tokd",
        ),
        (["verify", "x", "--expect", "ffp"], "--expect 'ffp': did you mean ffpp?"),
        (["probe"], "required: --out"),
    ],
    ids=str,
)
def test_a_word_that_is_not_known_names_the_nearest(args, says, capsys):
    assert main(args) == 2
    assert says in line(capsys)


def test_messages_on_data_name_the_options_of_their_command(tiny_ffpp, tmp_path, capsys):
    assert main(["show", str(tiny_ffpp), "--quality", "c99", "--out", "x.png"]) == 2
    assert "--data." not in line(capsys)
    assert main(["prepare", "ffpp", str(tiny_ffpp), "--out", "cut"]) == 2
    said = line(capsys)
    assert "has no videos" in said
    assert "tokd prepare" not in said


def test_the_help_of_a_fit_is_short_quick_and_true(capsys):
    started = time.process_time()
    with pytest.raises(SystemExit):
        main(["fit", "--help"])
    assert time.process_time() - started < 1
    text = capsys.readouterr().out
    assert len(text.splitlines()) < 140
    assert "tokd fit --config experiments/ffpp_teacher.yaml" in text
    for refused in ("accumulate_grad_batches", "gradient_clip", "barebones", "plugins"):
        assert refused not in text


def test_every_option_of_every_help_has_a_text():
    [commands] = [
        a for a in parser()._actions if a.dest == "of" or (hasattr(a, "choices") and a.choices)
    ]
    assert set(HELP) < set(commands.choices)
    for name, command in commands.choices.items():
        for action in command._actions:
            assert action.help, (name, action.dest)


def test_an_uninstalled_tree_knows_its_version(monkeypatch):
    found = metadata.version

    def version(name):
        if "tokd" in name:
            raise metadata.PackageNotFoundError(name)
        return found(name)

    monkeypatch.setattr(metadata, "version", version)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert versions()["tokd-lightning"] == project["version"]

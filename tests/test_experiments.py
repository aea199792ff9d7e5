from pathlib import Path

import pandas as pd
import pytest
import yaml

from tokd_lightning.models.detectors import DETECTORS
from tokd_lightning.tables import grid
from tokd_lightning.training.cli import TokdCLI

ROOT = Path(__file__).parents[1]
EXPERIMENTS = sorted((ROOT / "experiments").glob("*.yaml"))
PARTS = sorted((ROOT / "configs").rglob("*.yaml"))
NAMES = {
    "celebdf_res18t": "celebdf-original_resnet18_thin_tokd-both_s0",
    "celebdf_res34t": "celebdf-original_resnet34_thin_tokd-both_s0",
    "celebdf_teacher": "celebdf-original_teacher-both_s0",
    "celebdf_xception": "celebdf-original_xception_tokd-both_s0",
    "demo_teacher": "synthetic-c23_teacher-both_s0",
    "demo_tokd": "synthetic-c23_resnet18_thin_tokd-both_s0",
    "demo_vanilla": "synthetic-c23_resnet18_thin_vanilla-none_s0",
    "ffpp_add": "ffpp-c40_resnet50_add-rgb_s0",
    "ffpp_add_teacher": "ffpp-c23_teacher-rgb_s0",
    "ffpp_res18t": "ffpp-c40_resnet18_thin_tokd-both_s0",
    "ffpp_res18t_add": "ffpp-c40_resnet18_thin_tokdwithadd-both_s0",
    "ffpp_res34t": "ffpp-c40_resnet34_thin_tokd-both_s0",
    "ffpp_teacher": "ffpp-c40_teacher-both_s0",
    "ffpp_xception": "ffpp-c40_xception_tokd-both_s0",
    "modern_mobilenetv4": "ffpp-c23_mobilenetv4_conv_small.e2400_r224_in1k_tokd-both_s0",
    "modern_res18t": "ffpp-c23_resnet18_thin_tokd-both_s0-1c3a6d",
    "modern_teacher_clip": "ffpp-c23_teacher-rgb_s0-c3f79f",
    "modern_teacher_convnext_dinov3": "ffpp-c23_teacher-both_s0-86c117",
    "modern_teacher_vit_dinov3": "ffpp-c23_teacher-both_s0-5ad1d2",
    "own_res18t": "own-unknown_resnet18_thin_tokd-both_s0",
    "own_teacher": "own-unknown_teacher-both_s0",
} | {
    f"{data}_{name}": f"{place}_{name}-{recipe}_s0"
    for name in DETECTORS
    for data, place, recipe in (
        ("ffpp", "ffpp-c40", "paper"),
        ("celebdf", "celebdf-original", "paper"),
        ("demo", "synthetic-c23", "demo"),
    )
}


class Parsed(TokdCLI):
    """Everything up to the point where networks would be built."""

    def instantiate_classes(self):
        pass

    def _run_subcommand(self, subcommand):
        pass


def parse(*args):
    return Parsed([str(a) for a in args])


def keys(block):
    if isinstance(block, dict):
        for key, value in block.items():
            yield key
            yield from keys(value)


@pytest.mark.thinned(20)
@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_parses_and_is_named_by_its_cell(path, tmp_path):
    cli = parse("fit", "--config", path, "--runs", tmp_path)
    assert cli.run.folder == tmp_path / NAMES[path.stem]


@pytest.mark.parametrize("path", EXPERIMENTS + PARTS, ids=lambda p: p.stem)
def test_no_file_has_a_dotted_key(path):
    # jsonargparse drops a dotted key beside a block without a word.
    assert not [key for key in keys(yaml.safe_load(path.read_text())) if "." in key]


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_says_how_it_is_launched(path):
    header = [line for line in path.read_text().splitlines() if line.startswith("#")]
    assert any(f"tokd fit --config experiments/{path.name}" in line for line in header)
    assert any(line.startswith("# First:") for line in header)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda p: p.stem)
def test_every_experiment_is_a_page_that_stands_alone(path):
    text = path.read_text()
    assert ".yaml" not in "".join(x for x in text.splitlines() if not x.startswith("#"))
    assert {"max_epochs:", "batch_size:", "size:", "lr:"} <= set(text.split())


@pytest.mark.thinned(3)
@pytest.mark.parametrize("student", ["res18t", "res34t", "xception"])
@pytest.mark.parametrize(("data", "lr", "alpha"), [("ffpp", 1e-4, 10.0), ("celebdf", 1e-3, 200.0)])
def test_the_paper_s_numbers_reach_the_configuration(data, lr, alpha, student, tmp_path):
    file = ROOT / f"experiments/{data}_{student}.yaml"
    config = parse("fit", "--config", file, "--runs", tmp_path).resolved
    model, data = config["model"]["init_args"], config["data"]["init_args"]
    assert config["trainer"]["max_epochs"] == 15
    assert (data["batch_size"], data["size"], data["frames_per_video"]) == (64, 299, 32)
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"
    assert model["optimizer"]["init_args"]["lr"] == lr
    assert model["rotation_optimizer"]["init_args"]["lr"] == lr / 2
    assert model["lr_scheduler"]["init_args"] | {"last_epoch": -1} == {
        "step_size": 5,
        "gamma": 0.1,
        "last_epoch": -1,
    }
    tokd = model["distiller"]["init_args"]
    assert (tokd["alpha_rgb"], tokd["alpha_frequency"], tokd["dim"]) == (alpha, alpha, 1024)
    assert config["monitor"] == "val/frame/acc"
    assert model["pretrained"] is False


@pytest.mark.slow
@pytest.mark.parametrize("data", ["ffpp", "celebdf"])
def test_the_teacher_is_pre_trained_and_found_by_its_students(data, tmp_path):
    folder = ROOT / "experiments"
    teacher = parse("fit", "--config", folder / f"{data}_teacher.yaml", "--runs", tmp_path)
    assert teacher.resolved["model"]["init_args"]["pretrained"] is True
    for student in ("res18t", "res34t", "xception"):
        file = folder / f"{data}_{student}.yaml"
        model = parse("fit", "--config", file, "--runs", tmp_path).resolved["model"]
        run = Path(model["init_args"]["teacher"]).parents[1].name
        assert run == teacher.run.folder.name


def test_published_values_in_headers_are_those_of_the_tables():
    folder = ROOT / "tokd_lightning/tables/published"
    table = pd.read_csv(folder / "table3_distillation.csv").set_index(
        ["dataset", "student", "method", "branches"]
    )["acc"]
    teacher = pd.read_csv(folder / "table4_teacher_student.csv").set_index("model").loc["Teacher"]
    for data, name, prefix in (("ffpp", "FF++", "ffpp_c40"), ("celebdf", "Celeb-DF", "celebdf")):
        values = f"accuracy {teacher[f'{prefix}_acc']:.2f} %, AUC {teacher[f'{prefix}_auc']:.2f} %"
        assert values in (ROOT / f"experiments/{data}_teacher.yaml").read_text()
        for file, student in (
            ("res18t", "Res18-T"),
            ("res34t", "Res34-T"),
            ("xception", "Xception"),
        ):
            both = table[name, student, "TOKD", "Both"]
            vanilla = table[name, student, "Vanilla", "none"]
            header = (ROOT / f"experiments/{data}_{file}.yaml").read_text()
            assert f"accuracy {both:.2f} % (vanilla {vanilla:.2f} %)" in header


def test_how_validation_is_drawn_is_part_of_the_run(tmp_path):
    args = ["--config", ROOT / "experiments/celebdf_teacher.yaml", "--runs", tmp_path]
    plain = parse("fit", *args)
    data = plain.resolved["data"]["init_args"]
    assert (data["val_fraction"], data["val_seed"]) == (0.1, 0)
    other = parse("fit", *args, "--data.val_seed", "1")
    assert other.run.folder.name.startswith(plain.run.folder.name + "-")


def test_modern_students_find_the_teacher_of_their_header():
    folder = ROOT / "experiments"
    for student in ("modern_res18t", "modern_mobilenetv4"):
        model = yaml.safe_load((folder / f"{student}.yaml").read_text())["model"]["init_args"]
        run = Path(model["teacher"]).parents[1].name
        assert run == NAMES["modern_teacher_convnext_dinov3"]


@pytest.mark.slow
def test_the_seed_reaches_model_and_data(tmp_path):
    args = ["--config", EXPERIMENTS[0], "--runs", tmp_path, "--seed_everything", "7"]
    config = parse("fit", *args).resolved
    assert config["model"]["init_args"]["seed"] == 7
    assert config["data"]["init_args"]["seed"] == 7


@pytest.mark.slow
def test_add_s_recipe_reaches_the_configuration_and_finds_its_teacher(tmp_path):
    runs = ["--runs", tmp_path]
    student = parse("fit", "--config", ROOT / "experiments/ffpp_add.yaml", *runs).resolved
    teacher = parse("fit", "--config", ROOT / "experiments/ffpp_add_teacher.yaml", *runs)
    model, data = student["model"]["init_args"], student["data"]["init_args"]
    assert Path(model["teacher"]).parents[1].name == teacher.run.folder.name
    assert (data["quality"], data["teacher_quality"]) == ("c40", "c23")
    assert (data["size"], data["batch_size"]) == (128, 144)
    assert student["trainer"]["max_epochs"] == 32
    assert (model["warm_up_epochs"], model["interval"], model["student"]) == (3, "step", "resnet50")
    assert model["optimizer"]["init_args"]["lr"] == 2e-4
    assert model["lr_scheduler"]["init_args"]["max_lr"] == 2e-4
    assert model["lr_scheduler"]["init_args"].get("total_steps") is None
    add = model["distiller"]["init_args"]
    assert add["frequency_weights"] == [0.0, 1.0, 2.0, 0.25]
    assert add["view_weights"] == [0.0, 0.5, 2.5, 2.0]
    theirs = teacher.resolved["model"]["init_args"]
    assert (theirs["backbone"], theirs["branches"]) == ("resnet50", "rgb")
    for key in ("size", "mean", "std", "batch_size"):
        assert teacher.resolved["data"]["init_args"][key] == data[key]


def test_tables_know_the_detectors_and_their_titles():
    assert {k.name: k.title for k in DETECTORS.values()} == grid.DETECTORS


@pytest.mark.parametrize("name", ["spsl", pytest.param("f3net", marks=pytest.mark.slow)])
def test_the_house_recipe_replaces_optimizer_schedule_and_length(name, tmp_path):
    cell = grid.detector("ffpp", name, "house")
    house = parse("fit", *cell.arguments(runs=tmp_path)).resolved
    model = house["model"]["init_args"]
    assert model["recipe"] == "house"
    assert model["optimizer"]["class_path"] == "torch.optim.Adam"
    assert model["optimizer"]["init_args"]["lr"] == 1e-4
    assert "momentum" not in model["optimizer"]["init_args"]
    assert model["lr_scheduler"]["class_path"].endswith("StepLR")
    assert (house["trainer"]["max_epochs"], model["interval"]) == (15, "epoch")
    assert cell.name == f"ffpp-c40_{name}-house_s0"


def test_a_detector_is_named_by_its_short_name_with_its_own_defaults(tmp_path):
    config = ROOT / "experiments/ffpp_spsl.yaml"
    cli = parse("fit", "--config", config, "--model.detector", "rfm", "--runs", tmp_path)
    block = cli.resolved["model"]["init_args"]["detector"]
    assert block["class_path"].endswith("RFM")
    assert block["init_args"] == {"backbone": "xception", "pretrained": True}
    assert cli.run.folder.name.startswith("ffpp-c40_rfm-paper_s0-")

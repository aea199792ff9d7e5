from pathlib import Path

import pytest

from tokd_lightning.errors import TokdError
from tokd_lightning.runs.identity import recipe, recipe_hash

ROOT = Path(__file__).parents[1]
TOKD = str(ROOT / "experiments/ffpp_res18t.yaml")
SP = str(ROOT / "configs/distillers/sp.yaml")


def test_a_recipe_holds_the_parts_that_an_experiment_names():
    asked = recipe(["fit", "--config", TOKD])
    assert asked["trainer.max_epochs"] == 15
    assert asked["data.quality"] == "c40"
    assert asked["model.distiller.dim"] == 1024
    assert asked["model.rotation_scheduler.gamma"] == 0.05


def test_places_change_nothing_and_options_do():
    plain = recipe_hash(["--config", TOKD])
    assert plain == recipe_hash(["fit", f"--config={TOKD}", "--seed_everything", "0", "--reuse"])
    places = ["--data.root", "/x", "--runs=y", "--model.teacher", "t.ckpt", "--trainer.devices=2"]
    assert plain == recipe_hash(["--config", TOKD, *places])
    for option in (["--seed_everything=1"], ["--model.distiller.dim", "512"], ["--data.size=64"]):
        assert recipe_hash(["--config", TOKD, *option]) != plain


def test_short_and_long_keys_are_one_and_the_last_option_wins():
    long = ["--config", TOKD, "--model.init_args.distiller.init_args.dim=256"]
    short = ["--config", TOKD, "--model.distiller.dim=64", "--model.distiller.dim=256"]
    assert recipe(long) == recipe(short)


def test_another_method_takes_the_place_of_the_experiments():
    asked = recipe(["--config", TOKD, "--model.distiller", SP, "--model.distiller.branches=rgb"])
    assert asked["model.distiller.class_path"] == "SimilarityPreserving"
    assert asked["model.distiller.branches"] == "rgb"
    assert "model.distiller.dim" not in asked
    vanilla = recipe(["--config", TOKD, "--model.distiller", "Vanilla"])
    assert [key for key in vanilla if ".distiller" in key] == ["model.distiller.class_path"]


def test_a_part_that_changes_is_noticed(tmp_path):
    (tmp_path / "part.yaml").write_text("max_epochs: 2\n")
    (tmp_path / "e.yaml").write_text("trainer: part.yaml\n")
    before = recipe_hash(["--config", str(tmp_path / "e.yaml")])
    (tmp_path / "part.yaml").write_text("max_epochs: 3\n")
    assert recipe_hash(["--config", str(tmp_path / "e.yaml")]) != before


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(TokdError, match=r"none\.yaml: No such file"):
        recipe(["--config", str(tmp_path / "none.yaml")])
    (tmp_path / "bad.yaml").write_text("a: [")
    with pytest.raises(TokdError, match=r"bad\.yaml is not a YAML file"):
        recipe(["--config", str(tmp_path / "bad.yaml")])

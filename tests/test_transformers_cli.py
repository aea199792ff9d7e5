"""A transformer through the command line: teacher, distillation into ResNet18-T, student, files."""

import numpy as np
import onnxruntime
import pytest
import timm
import torch
import yaml
from evaluated import SHORT
from test_cli import ROOT, folder

from tokd_lightning.cli import main
from tokd_lightning.deploy.networks import to_onnx
from tokd_lightning.explain.cams import read_maps
from tokd_lightning.models import DualBranchTeacher, Student, build_backbone
from tokd_lightning.modules.trained import TrainedModule

DATA = ["--data.size=64", "--data.crop=48", "--data.batch_size=8", "--data.num_workers=0"]
OPTIONS = [*DATA, "--trainer.max_epochs=1", "--trainer.log_every_n_steps=1", "--log=none", *SHORT]


def tokd(command, experiment, root, runs, *options):
    config = ROOT / f"experiments/{experiment}.yaml"
    return main(
        [command, f"--config={config}", f"--data.root={root}", f"--runs={runs}", *OPTIONS, *options]
    )


@pytest.fixture(scope="module")
def runs(tiny_ffpp, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    teacher = ["--model.backbone=test_vit", "--model.width=16"]
    assert tokd("fit", "demo_teacher", tiny_ffpp, runs, *teacher) == 0
    best = folder(runs, "teacher") / "checkpoints" / "best.ckpt"
    distiller = ["--model.distiller.width=16", "--model.distiller.dim=64"]
    distiller += [f"--model.teacher={best}", "--model.rotation_scheduler.total_steps=2"]
    assert tokd("fit", "demo_tokd", tiny_ffpp, runs, *distiller) == 0
    assert tokd("fit", "demo_vanilla", tiny_ffpp, runs, "--model.student=test_vit") == 0
    for what in ("teacher", "tokd", "vanilla"):
        assert main(["test", str(folder(runs, what))]) == 0
    return runs


@pytest.mark.slow
def test_a_transformer_teaches_resnet18_thin_through_the_command(runs):
    config = yaml.safe_load((folder(runs, "tokd") / "fit.yaml").read_text())
    assert config["model"]["init_args"]["student"] == "resnet18_thin"
    teacher = TrainedModule(folder(runs, "teacher") / "checkpoints" / "best.ckpt")
    assert teacher.header["network"]["backbone"] == "test_vit"
    assert teacher.header["network"]["size"] == 48
    columns = (folder(runs, "tokd") / "metrics.csv").read_text().splitlines()[0]
    assert "train/rgb" in columns
    assert "train/frequency" in columns


@pytest.mark.slow
def test_its_explanation_has_maps_of_patches(runs):
    for what, names in (("teacher", ("rgb", "frequency")), ("vanilla", ("student",))):
        run = folder(runs, what)
        options = ["--bands", "2", "--frames", "2", "--errors", "0", "--strides", "16", "32"]
        assert main(["explain", str(run), *options]) == 0
        cams = read_maps(run / "explanations" / "gradcam.npz")
        shapes = dict(zip(cams.names, [m.shape[1:] for m in cams.maps], strict=True))
        assert shapes == {(n, s): (3, 3) if s == 16 else (2, 2) for n in names for s in (16, 32)}
        assert all((np.abs(m).sum() > 0) for m in cams.maps)


@pytest.mark.slow
def test_a_transformer_student_exports_with_parity(runs, tmp_path):
    run, out = folder(runs, "vanilla"), tmp_path / "model"
    assert main(["export", str(run), "--out", str(out)]) == 0
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    student = TrainedModule(run / "checkpoints" / "best.ckpt").network.eval()
    for batch in (1, 3):
        x = torch.randn(batch, 3, 48, 48)
        logits = session.run(["logits"], {"image": x.numpy()})[0]
        with torch.no_grad():
            np.testing.assert_allclose(logits, student(x).logits.numpy(), atol=1e-4)


class _Logits(torch.nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, image):
        return self.network(image).logits


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_vit", "test_vit3", "test_mambaout", "test_resnet"])
def test_dual_branch_teachers_export_for_batches_of_any_size(name):
    """With HighPass, whose batch was once fixed by ``len``."""
    teacher = DualBranchTeacher(name, pretrained=False, size=64).eval()
    session = onnxruntime.InferenceSession(to_onnx(_Logits(teacher), 64))
    for batch in (1, 5):
        x = torch.randn(batch, 3, 64, 64)
        with torch.no_grad():
            expected = teacher(x).logits.numpy()
        np.testing.assert_allclose(session.run(None, {"image": x.numpy()})[0], expected, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("vit_tiny_patch16_224", 256),  # position embeddings
        ("hiera_tiny_224", 256),
        ("swin_tiny_patch4_window7_224", 256),
        ("swiftformer_xs", None),  # two classifiers, by the name that timm records
        ("vit_base_patch16_siglip_224", None),  # an attention pool
        ("cait_xxs24_224", None),  # class-attention blocks
    ],
)
def test_timm_s_own_file_is_loaded_by_path(name, size, tmp_path):
    torch.manual_seed(5)
    released = timm.create_model(name)
    torch.save(released.state_dict(), tmp_path / "released.pth")
    backbone = build_backbone(name, str(tmp_path / "released.pth"), size=size, role="maps")
    ours = {key.partition(".")[2]: value for key, value in backbone.named_parameters()}
    kept = [
        torch.equal(value, theirs)
        for key, theirs in released.state_dict().items()
        if (value := ours.get(key)) is not None and value.shape == theirs.shape
    ]
    if size is None and name == "swiftformer_xs":
        return  # cut into stages, with names of its own
    assert all(kept)
    assert len(kept) > 0.8 * len(ours)
    again = Student(name, str(tmp_path / "released.pth"), size=size)
    torch.save({"state_dict": again.state_dict()}, tmp_path / "run.pth")
    third = build_backbone(name, str(tmp_path / "run.pth"), size=size, role="maps")
    for key, value in third.state_dict().items():
        assert torch.equal(value, again.backbone.state_dict()[key]), key

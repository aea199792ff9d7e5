"""Every method between every student and teacher, at every size; and the catalogue of methods."""

import functools
import inspect

import pytest
import torch
from pairs import EVERY, LABELS, MAPS, student_output, teacher_output, total

from tokd_lightning import distillation
from tokd_lightning.distillation import ADD, TOKD, VID, Distiller, FitNet
from tokd_lightning.distillation.catalogue import METHODS, extra_parameters, print_methods
from tokd_lightning.models import DualBranchTeacher, Student
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.probe import map_shapes
from tokd_lightning.runs.identity import cell

STUDENTS = ("resnet18_thin", "resnet34_thin", "xception", "efficientnet_b0")
TEACHERS = ("xception", "resnet18_thin")
SIZES = (299, 256, 128, 96)


@functools.cache
def backbone(name):
    with torch.device("meta"):
        return build_backbone(name)


@functools.cache
def shapes(name, size):
    return map_shapes(backbone(name), size)


def run(method, student, teacher, dtype=torch.float32, **options):
    torch.manual_seed(0)
    distiller = method(student, teacher, **options)
    outputs = student_output(student, 4, dtype), teacher_output(teacher, 4, dtype)
    losses = distiller(*outputs, LABELS)
    total(losses).backward()
    return losses, outputs[0], distiller


@pytest.mark.thinned(5)
@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("student", STUDENTS)
@pytest.mark.parametrize("method", [*MAPS, ADD, TOKD], ids=lambda m: m.__name__)
def test_a_method_fits_every_pair_of_networks(method, student, teacher):
    losses, output, distiller = run(method, shapes(student, 96), shapes(teacher, 96))
    assert total(losses).isfinite()
    for tap in distiller.taps:
        assert output.maps[tap].grad.isfinite().all()
        assert output.maps[tap].grad.abs().max() > 0
    assert all(p.grad.isfinite().all() for p in distiller.parameters() if p.requires_grad)


@pytest.mark.thinned(5)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("teacher", TEACHERS)
@pytest.mark.parametrize("student", STUDENTS)
def test_every_tap_fits_at_every_size(student, teacher, size):
    # One batch of narrow maps on the real grids; the channels do not depend on the size.
    ours, theirs = (
        {stride: (c, h, w) for c, (stride, (_, h, w)) in enumerate(given.items(), start)}
        for start, given in ((2, shapes(student, size)), (3, shapes(teacher, size)))
    )
    for method in MAPS:
        losses, output, distiller = run(method, ours, theirs, taps=(8, 16, 32))
        assert total(losses).isfinite()
        assert all(m.grad.abs().max() > 0 for m in output.maps.values())
        if method in (VID, FitNet):
            run(method, ours, theirs, rotation="learned", dim=18)
        assert distiller.taps == (8, 16, 32)
    for method, options in ((TOKD, {"dim": 18, "width": 4}), (ADD, {})):
        losses, output, distiller = run(method, ours, theirs, **options)
        assert total(losses).isfinite()
        assert all(output.maps[tap].grad.abs().max() > 0 for tap in distiller.taps)


@pytest.mark.thinned(4)
@pytest.mark.parametrize("method", EVERY, ids=lambda m: m.__name__)
def test_real_networks_pass_their_outputs(method):
    torch.manual_seed(0)
    student, teacher = Student("efficientnet_b0"), DualBranchTeacher("resnet18_thin", False)
    images = torch.randn(4, 3, 96, 96)
    distiller = method(student.shapes(96), teacher.shapes(96))
    with torch.no_grad():
        wanted = teacher.eval()(images)
    losses = distiller(student(images), wanted, LABELS)
    total(losses).backward()
    assert total(losses).isfinite()
    assert all(p.grad.isfinite().all() for p in student.parameters() if p.grad is not None)
    if method is FitNet:
        regressors = [distiller.heads[b]["16"] for b in ("rgb", "frequency")]
        assert [r.rectified for r in regressors] == [True, True]


def test_xceptions_middle_flow_is_not_rectified():
    torch.manual_seed(0)
    teacher = DualBranchTeacher("xception", False).eval()
    ours, theirs = shapes("resnet18_thin", 96), teacher.shapes(96)
    distiller = FitNet(ours, theirs, taps=(16, 32))
    with torch.no_grad():
        wanted = teacher(torch.randn(2, 3, 96, 96))
    distiller(student_output(ours, 2, torch.float32), wanted, LABELS[:2])
    heads = distiller.heads["rgb"]
    assert (heads["16"].rectified, heads["32"].rectified) == (False, True)


@pytest.mark.parametrize("method", EVERY, ids=lambda m: m.__name__)
def test_a_method_is_named_in_runs_as_it_names_itself(method):
    spec = {"class_path": f"tokd_lightning.distillation.{method.__name__}"}
    config = {
        "seed_everything": 0,
        "data": {"init_args": {"name": "ffpp", "quality": "c40"}},
        "model": {"init_args": {"student": "resnet18_thin", "distiller": spec}},
    }
    found = cell(config)
    made = method(shapes("resnet18_thin", 96), shapes("resnet18_thin", 96))
    assert (found.method, found.branches) == (method.method, made.branches)
    assert method.citation
    assert method.formula


def test_extra_parameters_are_heads_and_learned_rotations():
    student, teacher = {16: (3, 2, 2), 32: (4, 2, 2)}, {16: (5, 2, 2), 32: (6, 2, 2)}
    vid = 2 * sum(c * t + 2 * t * t + t for c, t in ((3, 5), (4, 6)))
    assert extra_parameters(VID(student, teacher)) == vid
    fitnet = 2 * (3 * 5 + 2 * 5)
    assert extra_parameters(FitNet(student, teacher)) == fitnet
    rotated = FitNet(student, teacher, rotation="learned", dim=8)
    assert extra_parameters(rotated) == fitnet + 2 * 8 * 8
    control = FitNet(student, teacher, rotation="frozen_random", dim=8)
    assert extra_parameters(control) == fitnet


def test_no_method_is_missing_from_the_table():
    exported = {getattr(distillation, name) for name in distillation.__all__}
    methods = {m for m in exported if inspect.isclass(m) and issubclass(m, Distiller)}
    assert {m for m in methods if not inspect.isabstract(m)} == set(METHODS) >= set(EVERY)


def test_no_name_and_no_loss_is_cut_on_a_narrow_terminal(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_methods("resnet18_thin", "resnet18_thin", 96)
    table = capsys.readouterr().out
    assert "…" not in table
    starts = {line.partition(" ")[0] for line in table.splitlines()}
    assert starts >= {method.__name__ for method in METHODS}


def test_the_table_of_methods_names_each_with_its_parameters(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    print_methods("resnet18_thin", "xception", 128)
    rows = [[c.strip() for c in line.split("│")] for line in capsys.readouterr().out.splitlines()]
    found = {row[1]: row[2:] for row in rows if len(row) > 2}
    for method in METHODS:
        source, loss, *_ = found[method.__name__]
        assert (source, loss) == (method.citation, method.formula)
    assert found["FitNet"][2:5] == ["16", "100", f"{2 * (128 * 728 + 2 * 728) / 1e6:.3f}"]
    assert found["AttentionTransfer"][2:5] == ["8, 16, 32", "1000", "0.000"]
    assert found["Hinton"][2:5] == ["–", "–", "0.000"]

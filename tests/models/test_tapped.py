"""Networks of timm that are no chain of maps: transformers of three layouts, at their own sizes."""

import pytest
import timm
import torch
from jsonargparse import Namespace
from timm.models import register_model
from timm.models.hiera import Hiera
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer_sam import VisionTransformerSAM
from torch.nn import functional

from tokd_lightning.errors import TokdError
from tokd_lightning.models import DualBranchTeacher, Student, build_backbone, keep_maps_from
from tokd_lightning.models.gradcam import grad_cam
from tokd_lightning.models.layouts import Layout, layout_of
from tokd_lightning.models.probe import map_shapes
from tokd_lightning.models.rebuild import rebuild
from tokd_lightning.models.tapped import choose_taps
from tokd_lightning.training.normalisation import follow_weights

SIZE = 64


def _known(options):
    return {"img_size": SIZE} | {
        k: v for k, v in options.items() if k in ("img_size", "num_classes")
    }


@register_model
def four_stage_swin(pretrained=False, **options):
    own = {"window_size": 2, "embed_dim": 8, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 2, 4)}
    return SwinTransformer(**own, **_known(options))


@register_model
def four_stage_hiera(pretrained=False, **options):
    own = {"embed_dim": 8, "num_heads": 1, "stages": (1, 1, 2, 1)}
    return Hiera(**own, **_known(options))


@register_model
def small_sam(pretrained=False, **options):
    own = {"embed_dim": 16, "depth": 3, "num_heads": 2, "window_size": 2, "neck_chans": 8}
    return VisionTransformerSAM(**own, use_rel_pos=True, **_known(options))


# Tokens with a prefix; NHWC; tokens in another order; NHWC without attention.
NAMES = ["test_vit", "four_stage_swin", "four_stage_hiera", "test_mambaout"]


@pytest.fixture(scope="module")
def teachers():
    """A dual-branch teacher without RFAMs' attention, per family."""
    torch.manual_seed(0)
    return {
        name: DualBranchTeacher(name, pretrained=False, rfam="none", size=SIZE).eval()
        for name in NAMES
    }


@pytest.fixture
def images():
    return torch.randn(2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
@pytest.mark.parametrize(("name", "norms"), [("test_vit4", ("fc_norm",)), ("small_sam", ("neck",))])
def test_what_follows_the_last_block_is_found_and_the_same_to_the_bit(name, norms, images):
    """An RMS norm, whose rounding goes by the layout of its input, and a neck of convolutions."""
    backbone = build_backbone(name, size=SIZE, role="steps").eval()
    assert backbone.norms == norms
    whole, stepped = backbone(images)[32], backbone.written_maps(images)[32]
    assert torch.equal(stepped, whole)
    features, _ = backbone.network.forward_intermediates(images)
    last = features if name == "small_sam" else backbone.network.fc_norm(features)
    last = last if last.ndim == 4 else last[:, -16:].transpose(1, 2).reshape(2, -1, 4, 4)
    torch.testing.assert_close(stepped, functional.adaptive_avg_pool2d(last, 2))


@torch.no_grad()
def test_a_plain_transformer_is_tapped_after_each_third_of_its_blocks(teachers, images):
    """Against the blocks' own outputs, rearranged by hand."""
    network = teachers["test_vit"].rgb.network
    seen = []
    hooks = [
        block.register_forward_hook(lambda module, args, output: seen.append(output))
        for block in network.blocks
    ]
    normed = network.forward_features(images)
    for hook in hooks:
        hook.remove()
    second, fourth, _ = [
        tokens[:, 1:].transpose(1, 2).reshape(2, 64, 4, 4) for tokens in (seen[1], seen[3], seen[5])
    ]
    last = normed[:, 1:].transpose(1, 2).reshape(2, 64, 4, 4)
    maps = teachers["test_vit"](images).rgb
    assert len(seen) == 6
    torch.testing.assert_close(maps[8], functional.interpolate(second, (8, 8), mode="bilinear"))
    torch.testing.assert_close(maps[16], fourth)
    torch.testing.assert_close(maps[32], functional.avg_pool2d(last, 2))


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_steps_give_the_maps_of_timm_s_own_forward_bit_for_bit(name, teachers, images):
    teacher = teachers[name]
    expected = {
        branch: getattr(teacher, branch)(x)
        for branch, x in (("rgb", images), ("frequency", teacher.high_pass(images)))
    }
    output = teacher(images)
    assert list(output.rgb) == [8, 16, 32]
    for branch in ("rgb", "frequency"):
        for stride, ours in getattr(output, branch).items():
            assert ours.shape[-2:] == (SIZE // stride, SIZE // stride)
            assert torch.equal(ours, expected[branch][stride]), (branch, stride)


@pytest.mark.thinned(2)
@pytest.mark.parametrize("name", NAMES)
def test_every_weight_gets_a_gradient(name, images):
    torch.manual_seed(0)
    for network in (Student(name, size=SIZE), DualBranchTeacher(name, False, size=SIZE)):
        logits = network(images).logits
        functional.cross_entropy(logits, torch.tensor([0, 1])).backward()
        assert all(torch.isfinite(logits).flatten())
        assert [n for n, p in network.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_shapes_and_the_map_at_stride_4_are_those_of_a_run(name, teachers, images):
    teacher = teachers[name]
    keep_maps_from(teacher, 4)
    try:
        shapes, output = teacher.shapes(SIZE), teacher(images)
        alone = teacher.rgb(images)
    finally:
        keep_maps_from(teacher, 8)
    assert {stride: tuple(m.shape[1:]) for stride, m in output.rgb.items()} == shapes
    assert (4 in shapes) == (name != "test_vit")
    assert all(torch.equal(alone[stride], output.rgb[stride]) for stride in shapes)
    assert 4 not in teacher.shapes(SIZE)


@torch.no_grad()
def test_what_an_rfam_weights_goes_on_and_prefix_tokens_stay(teachers, images):
    teacher = DualBranchTeacher("test_vit", pretrained=False, size=SIZE).eval()
    teacher.load_state_dict(teachers["test_vit"].state_dict(), strict=False)
    blocks, seen = teacher.rgb.network.blocks, []
    hooks = [
        blocks[1].register_forward_hook(lambda module, args, output: seen.append(output)),
        blocks[2].register_forward_pre_hook(lambda module, args: seen.append(args[0])),
        teacher.rfams["0"].register_forward_hook(lambda module, args, output: seen.append(output)),
    ]
    teacher(images)
    for hook in hooks:
        hook.remove()
    before, (weighted, _), after = seen
    assert torch.equal(after[:, :1], before[:, :1])
    assert torch.equal(after[:, 1:], weighted.flatten(2).transpose(1, 2))
    assert not torch.equal(after[:, 1:], before[:, 1:])


@pytest.mark.parametrize("kind", ["NCHW", "NHWC", "tokens", "ordered"])
def test_layouts_read_what_they_write(kind):
    feature_map = torch.arange(2 * 3 * 4.0).reshape(1, 2, 3, 4)
    order = tuple(torch.randperm(12, generator=torch.Generator().manual_seed(0)).tolist())
    state = torch.zeros(1, 5 if kind == "tokens" else 0, 2)
    layout = {
        "NCHW": Layout("NCHW", (3, 4)),
        "NHWC": Layout("NHWC", (3, 4)),
        "tokens": Layout("tokens", (3, 4)),
        "ordered": Layout("tokens", (3, 4), order),
    }[kind]
    if kind == "tokens":
        state = torch.cat([torch.full((1, 5, 2), -1.0), torch.zeros(1, 12, 2)], dim=1)
    elif kind == "ordered":
        state = torch.zeros(1, 12, 2)
    written = layout.write(state, feature_map)
    assert torch.equal(layout.read(written), feature_map)
    assert layout_of(written, feature_map) == layout
    if kind == "tokens":
        assert torch.equal(written[:, :5], state[:, :5])
    assert layout_of(written, feature_map + 1) is None


@pytest.mark.parametrize(
    ("sides", "size", "side", "taps"),
    [
        ([56, 28, 14, 7], 224, 224, {4: 0, 8: 1, 16: 2, 32: 3}),
        ([14] * 12, 224, 224, {8: 3, 16: 7, 32: 11}),
        ([16] * 12, 224, 224, {8: 3, 16: 7, 32: 11}),
        ([28, 14, 14, 14], 224, 224, {8: 0, 16: 2, 32: 3}),  # VOLO
        ([14, 7, 4], 224, 224, {8: 0, 16: 1, 32: 2}),  # LeViT
        ([56, 28, 14], 224, 224, {8: 0, 16: 1, 32: 2}),  # NesT
        ([19] * 24, 299, 304, {8: 7, 16: 15, 32: 23}),
        ([112, 56, 28, 14, 7], 224, 224, {4: 1, 8: 2, 16: 3, 32: 4}),
    ],
)
def test_taps_are_those_of_the_nearest_grid(sides, size, side, taps):
    assert choose_taps(sides, size, side) == taps


@torch.no_grad()
def test_a_size_that_would_lose_an_edge_is_padded():
    """77 px in patches of 16 are four patches and 13 pixels, which timm would drop."""
    student = Student("test_vit", size=77).eval()
    assert student.backbone.side == 80
    assert map_shapes(student.backbone, 77) == {8: (64, 10, 10), 16: (64, 5, 5), 32: (64, 3, 3)}
    x = torch.randn(1, 3, 77, 77)
    other = x.clone()
    other[..., -1] += 1
    assert not torch.equal(student(x).logits, student(other).logits)


def test_images_of_another_size_are_refused_in_one_line():
    with pytest.raises(
        TokdError, match=r"test_vit was built for images of 64 px.* 96 x 96"
    ) as error:
        Student("test_vit", size=SIZE)(torch.rand(1, 3, 96, 96))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_a_network_that_cannot_stop_is_a_student_but_no_dual_branch_teacher():
    with pytest.raises(TokdError, match=r"convit_tiny .*cannot stop between its blocks") as error:
        DualBranchTeacher("convit_tiny", pretrained=False)
    assert "\n" not in str(error.value)


@torch.no_grad()
@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_its_spec_rebuilds_it(kind, teachers, images):
    network = Student("test_vit", size=SIZE).eval() if kind == "student" else teachers["test_vit"]
    assert network.spec["size"] == SIZE
    again = rebuild(network.spec, kind).eval()
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(images).logits, network(images).logits)


@pytest.mark.parametrize("name", [*NAMES, "test_resnet"])
def test_groups_hold_every_weight_once(name, teachers):
    teacher = teachers.get(name) or DualBranchTeacher(name, pretrained=False)
    groups = teacher.rgb.groups()
    held = []
    for part in (part for parts in groups.values() for part in parts):
        held += [part] if isinstance(part, torch.nn.Parameter) else list(part.parameters())
    assert sorted(map(id, held)) == sorted(map(id, teacher.rgb.parameters()))
    if name == "test_vit":
        assert list(groups) == ["stem", *(f"blocks.{n}" for n in range(6)), "head"]


def test_timm_gives_the_same_weights_names_below_network():
    ours = dict(Student("test_vit", size=160).backbone.named_parameters())
    theirs = timm.create_model("test_vit", num_classes=0).state_dict()
    assert {key.removeprefix("network.") for key in ours} == set(theirs)


@pytest.mark.parametrize("kind", ["student", "teacher", "frequency"])
def test_grad_cam_on_tokens_has_the_weights_of_finite_differences(kind, images):
    """A step along one channel of all patches changes the score by number times weight."""
    torch.manual_seed(0)
    branch = {"student": "student", "teacher": "rgb"}.get(kind, kind)
    if kind == "student":
        network = Student("test_vit", size=SIZE).double().eval()
        blocks = network.backbone.network.blocks
    else:
        branches = "both" if kind == "teacher" else kind
        network = DualBranchTeacher("test_vit", False, branches=branches, size=SIZE)
        network = network.double().eval()
        blocks = getattr(network, branch).network.blocks
    x, step = images[:1].double(), 1e-6
    heats = {(h.branch, h.stride): h.values for h in grad_cam(network, x, (16, 32))[1]}
    channels, moved = 64, []
    # Before block 4, whose input is the map at stride 16, class token in front.
    steps = step * torch.cat([torch.eye(channels), -torch.eye(channels)]).double()[:, None, :]

    def move(module, args):
        moved.append(args[0])
        patches = args[0][:, 1:]
        return (torch.cat([args[0][:, :1], patches + steps[: len(patches)]], dim=1), *args[1:])

    hook = blocks[4].register_forward_pre_hook(move)
    with torch.no_grad():
        logits = network(x.expand(2 * channels, -1, -1, -1)).logits
    hook.remove()
    up, down = (logits[:, 1] - logits[:, 0]).chunk(2)
    at = moved[0][0, 1:].T.reshape(channels, 4, 4)
    expected = torch.einsum("c,chw->hw", (up - down) / (2 * step * 16), at)
    torch.testing.assert_close(heats[branch, 16][0], expected, rtol=1e-4, atol=1e-10)
    assert heats[branch, 32].shape[-2:] == (2, 2)
    assert (heats[branch, 32] != 0).all()


def test_follow_weights_takes_the_tag_s_normalisation_unless_the_data_say_one():
    def config(name, **data):
        model = {"backbone": name, "pretrained": True}
        return Namespace(
            model=Namespace(init_args=Namespace(**model)),
            data=Namespace(init_args=Namespace(**{"mean": 0.5, "std": 0.5, **data})),
        )

    imagenet = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    for name, given, expected in (
        ("deit_tiny_patch16_224", {}, imagenet),
        ("deit_tiny_patch16_224", {"mean": 0.5}, (0.5, 0.5)),
        ("test_resnet", {}, (0.5, 0.5)),  # cut into stages: only announced
        ("resnet18_thin", {}, (0.5, 0.5)),
    ):
        parsed = config(name, **given)
        data = Namespace(init_args=Namespace(**given))
        follow_weights(parsed, lambda data=data: Namespace(data=data))
        assert (parsed.data.init_args.mean, parsed.data.init_args.std) == expected

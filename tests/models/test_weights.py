import socket
import time
import types
from pathlib import Path

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tokd_lightning.errors import TokdError
from tokd_lightning.models import weights
from tokd_lightning.models.backbones import build_backbone
from tokd_lightning.models.student import Student


@pytest.fixture
def unplugged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No network, no proxy, empty caches."""

    def refuse(*_args: object, **_kwargs: object) -> socket.socket:
        raise socket.gaierror("Name or service not known")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr("urllib.request.getproxies", dict)
    monkeypatch.setattr(huggingface_hub, "try_to_load_from_cache", lambda *_args, **_kwargs: None)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    return tmp_path


def released(name: str) -> dict[str, Tensor]:
    """Make what a timm release of a network looks like, classifier included."""
    return {key: value.clone() for key, value in timm.create_model(name).state_dict().items()}


def assert_loaded(backbone: nn.Module, state: dict[str, Tensor]) -> None:
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state[key.split(".", 2)[2]].reshape(value.shape)), key


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
def test_a_released_file_is_loaded_without_its_classifier(tmp_path: Path, suffix: str):
    state, path = released("test_resnet"), tmp_path / f"weights.{suffix}"
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    assert_loaded(build_backbone("test_resnet", str(path)), state)


def test_a_training_checkpoint_around_the_weights_is_opened(tmp_path: Path):
    state = released("test_resnet")
    torch.save({"epoch": 3, "state_dict": state}, tmp_path / "checkpoint.pth")
    assert_loaded(build_backbone("test_resnet", str(tmp_path / "checkpoint.pth")), state)


def test_the_first_xception_release_is_loaded(tmp_path: Path):
    """It called the classifier last_linear and stored 1x1 kernels without their two ones."""
    state = released("legacy_xception")
    state["last_linear.weight"], state["last_linear.bias"] = (
        state.pop("fc.weight"),
        state.pop("fc.bias"),
    )
    state = {
        key: value[:, :, 0, 0] if "pointwise" in key else value for key, value in state.items()
    }
    state = {key: v for key, v in state.items() if not key.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "xception.pth")
    backbone = build_backbone("xception", str(tmp_path / "xception.pth"))
    assert_loaded(backbone, {**backbone.state_dict(), **_with_counters(backbone, state)})


def _with_counters(backbone: nn.Module, state: dict[str, Tensor]) -> dict[str, Tensor]:
    counters = {
        key.split(".", 2)[2]: value
        for key, value in backbone.state_dict().items()
        if key.endswith("num_batches_tracked")
    }
    return {**state, **counters}


def test_a_thin_resnet_takes_a_file_but_has_no_imagenet_weights(tmp_path: Path):
    backbone = build_backbone("resnet18_thin")
    state = {key.split(".", 2)[2]: value for key, value in backbone.state_dict().items()}
    torch.save(state, tmp_path / "thin.pth")
    assert_loaded(Student(pretrained=str(tmp_path / "thin.pth")).backbone, state)
    with pytest.raises(TokdError, match="resnet18_thin has no ImageNet weights"):
        build_backbone("resnet18_thin", pretrained=True)


def test_weights_of_another_network_are_refused_by_name(tmp_path: Path):
    torch.save(released("test_efficientnet"), tmp_path / "other.pth")
    with pytest.raises(
        TokdError, match=r"another network: it lacks .*; it has conv_stem\.weight"
    ) as e:
        build_backbone("test_resnet", str(tmp_path / "other.pth"))
    assert "\n" not in str(e.value)


def test_weights_of_another_width_are_refused_by_shape(tmp_path: Path):
    model = timm.create_model("resnet18", num_classes=0)
    torch.save(model.state_dict(), tmp_path / "wide.pth")
    thin_keys = build_backbone("resnet18_thin").state_dict()
    assert thin_keys
    with pytest.raises(TokdError, match="another network"):
        build_backbone("resnet18_thin", str(tmp_path / "wide.pth"))
    state = released("test_resnet")
    state["conv1.0.weight"] = state["conv1.0.weight"][:1]
    torch.save(state, tmp_path / "narrow.pth")
    with pytest.raises(TokdError, match=r"conv1\.0\.weight is \(1, 3, 3, 3\), not"):
        build_backbone("test_resnet", str(tmp_path / "narrow.pth"))


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"\x80\x02broken"])
def test_a_file_that_holds_no_weights_is_refused(tmp_path: Path, suffix: str, content: bytes):
    path = tmp_path / f"page.{suffix}"
    path.write_bytes(content)
    with pytest.raises(TokdError, match="is not a file of network weights"):
        build_backbone("test_resnet", str(path))


def test_a_file_that_holds_something_else_is_refused(tmp_path: Path):
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(TokdError, match="is not a file of network weights"):
        build_backbone("test_resnet", str(tmp_path / "list.pth"))


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(TokdError, match=r"no pretrained weights at .*absent\.pth"):
        build_backbone("test_resnet", str(tmp_path / "absent.pth"))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("resnet18", "https://huggingface.co/timm/resnet18.a1_in1k/resolve/main/model.safetensors"),
        ("xception", "/xception-43020ad28.pth elsewhere, then put it into "),
    ],
)
def test_without_a_network_the_message_says_at_once_where_to_put_the_file(
    unplugged: Path, name: str, expected: str
):
    start = time.monotonic()
    with pytest.raises(TokdError) as error:
        build_backbone(name, pretrained=True)
    assert time.monotonic() - start < 5
    message = str(error.value)
    assert expected in message
    assert "`pretrained: PATH`" in message
    assert "\n" not in message
    assert (str(unplugged) in message) == (name == "xception")


def test_a_download_that_breaks_off_is_told_the_same_way(monkeypatch: pytest.MonkeyPatch):
    def broken(*_args: object, **_kwargs: object) -> nn.Module:
        raise ConnectionResetError("peer")

    monkeypatch.setattr(weights, "_cached", lambda _cfg: None)
    monkeypatch.setattr(weights, "_offline", lambda _cfg: False)
    monkeypatch.setattr(timm, "create_model", broken)
    with pytest.raises(TokdError, match="neither on this machine"):
        build_backbone("resnet18", pretrained=True)


def test_a_cached_hub_file_is_used_without_asking_the_hub(
    unplugged: Path, monkeypatch: pytest.MonkeyPatch
):
    state, path = released("test_resnet"), unplugged / "model.safetensors"
    save_file(state, path)
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repository, name, revision=None: str(path) if name == path.name else None,
    )
    assert_loaded(build_backbone("test_resnet", pretrained=True), state)


def test_a_file_put_where_the_message_says_is_used(unplugged: Path):
    state = released("legacy_xception")
    (unplugged / "checkpoints").mkdir()
    torch.save(state, unplugged / "checkpoints" / "xception-43020ad28.pth")
    assert_loaded(build_backbone("xception", pretrained=True), state)


def test_a_network_never_released_has_no_imagenet_weights(monkeypatch: pytest.MonkeyPatch):
    nothing = types.SimpleNamespace(hf_hub_id=None, url="")
    monkeypatch.setattr(timm.models, "get_pretrained_cfg", lambda _name: nothing)
    with pytest.raises(TokdError, match="resnet18 has no ImageNet weights"):
        build_backbone("resnet18", pretrained=True)

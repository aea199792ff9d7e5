"""Tiny trees in the layouts and with the names that FF++, Celeb-DF and others have them."""

import hashlib
import os
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from trees import METHODS, draw, make_celebdf, make_ffpp, write_splits

# The first pairs of the official lists.
SPLITS = {
    "train": [["071", "054"], ["087", "081"], ["881", "856"]],
    "val": [["720", "672"]],
    "test": [["953", "974"]],
}
REAL = "original_sequences/youtube"
FAKES = ("deepfakes", "swap")
ON_THE_HUB = (
    "resnet50.a1_in1k",
    "convnext_tiny.dinov3_lvd1689m",
    "vit_small_patch16_dinov3.lvd1689m",
    "mobilenetv4_conv_small.e2400_r224_in1k",
)


def ffpp(root: Path, frames: int = 5, size: int = 64) -> Path:
    """FF++ as its download script lays it out, at c23 and c40, with a part of its lists."""
    write_splits(root / "splits", **SPLITS)
    for level, quality in enumerate(("c23", "c40")):
        for a, b in [pair for pairs in SPLITS.values() for pair in pairs]:
            for target, source in ((a, b), (b, a)):
                for kind, method in enumerate(("", *METHODS)):
                    part = (
                        f"manipulated_sequences/{method}"
                        if method
                        else "original_sequences/youtube"
                    )
                    video = f"{target}_{source}" if method else target
                    place = root / part / quality / "faces" / video
                    write_frames(place, int(target), frames, size, kind, level)
    return root


def celebdf(root: Path, size: int = 64) -> Path:
    """Celeb-DF with its list of testing videos, in which 1 is real."""
    return make_celebdf(root, ids=6, clips=1, youtube=8, frames=4, size=size)


def own(root: Path, frames: int = 4, size: int = 64) -> Path:
    """A flat tree of one's own."""
    number = 0
    for split, people in {"train": 6, "val": 2, "test": 2}.items():
        for person in range(people):
            for kind, method in enumerate(("real", *(f"fake/{name}" for name in FAKES))):
                number += 1
                write_frames(root / split / method / f"clip_{number}", person, frames, size, kind)
    return root


def write_frames(
    place: Path, identity: int, frames: int, size: int, kind: int, noise: int = 0
) -> None:
    place.mkdir(parents=True)
    for frame in range(frames):
        image = Image.fromarray(draw(identity, 3 * frame, size, kind, noise))
        image.save(place / f"{3 * frame:04d}.png")


def weights(home: Path) -> dict[str, str]:
    """Random weights where timm would leave those it downloads; returns the environment."""
    places = {"TORCH_HOME": home / "torch", "HF_HOME": home / "hub"}
    released = places["TORCH_HOME"] / "hub" / "checkpoints" / "xception-43020ad28.pth"
    released.parent.mkdir(parents=True)
    torch.save(timm.create_model("legacy_xception").state_dict(), released)
    commit = hashlib.sha1(b"tiny").hexdigest()
    for name in ON_THE_HUB:
        repository = places["HF_HOME"] / "hub" / f"models--timm--{name}"
        (repository / "refs").mkdir(parents=True)
        (repository / "refs" / "main").write_text(commit)
        snapshot = repository / "snapshots" / commit
        snapshot.mkdir(parents=True)
        save_file(timm.create_model(name).state_dict(), snapshot / "model.safetensors")
    return {key: os.fspath(place) for key, place in places.items()} | {"HF_HUB_OFFLINE": "1"}


def demo(root: Path, size: int = 64) -> Path:
    """What `tokd demo` makes, but for the faces."""
    make_ffpp(root, size=size)
    (root / "SYNTHETIC.txt").write_text("drawn\n")
    return root

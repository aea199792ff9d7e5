"""Valid command lines of every verb, and what a user can do wrong with one of them."""

import csv
import os
import random
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from trees import draw, make_ffpp

ROOT = Path(__file__).parents[1]
FAST = [
    "--data.size=48", "--data.crop=48", "--data.batch_size=8", "--data.num_workers=0",
    "--data.samples_per_epoch=16", "--trainer.max_epochs=1", "--model.lr_scheduler.total_steps=2",
    "--log=none", "--model.student=test_resnet", "--trainer.enable_progress_bar=false",
]  # fmt: skip
_FIT = ["--config=one.yaml", "--data.root=tiny", "--runs=runs", *FAST]
# Paths are below the working directory: `tiny` (a tree), `videos` (a tree), `list.csv`, `run`,
# `student` (an export), `clip.mp4`, `one.yaml` (an experiment).
VALID: dict[str, list[str]] = {
    "fit": ["fit", *_FIT],
    "test": ["test", "--config=run/fit.yaml", "--data.num_workers=0"],
    "validate": ["validate", "--config=run/fit.yaml", "--data.num_workers=0"],
    "predict": ["predict", "--config=run/fit.yaml", "--data.num_workers=0"],
    "inputs": ["inputs", *_FIT],
    "probe": ["probe", "--out", "probe.json", *_FIT],
    "demo": ["demo", "--out", "made", "--identities", "6", "--quality", "c23", "--seed", "1"],
    "prepare": ["prepare", "ffpp", "videos", "--out", "cut", "--quality", "c23", "--frames", "2",
                "--size", "32", "--margin", "1.2", "--detector", "none", "--encoding", "png",
                "--jpeg-quality", "90", "--workers", "1"],
    "verify": ["verify", "tiny", "--quality", "c23", "--frames", "4", "--size", "48",
               "--expect", "ffpp", "--workers", "1"],
    "verify list": ["verify", "list.csv", "--root", ".", "--json", "found.json", "--quick"],
    "show": ["show", "tiny", "--out", "sheet.png", "--quality", "c23", "--method", "Deepfakes",
             "--split", "test", "--identities", "2", "--tile", "32", "--cutoff", "0.3"],
    "methods": ["methods", "--student", "resnet18_thin", "--teacher", "resnet18", "--size", "64"],
    "evaluate": ["evaluate", "run", "--on", "ffpp-c23:tiny", "--split", "val", "--frames", "1",
                 "--batch-size", "8", "--workers", "0", "--device", "cpu"],
    "evaluate list": ["evaluate", "run", "--on", "own:list.csv", "--root", ".", "--workers", "0",
                      "--robustness", "blur", "--on-error", "skip"],
    "explain": ["explain", "run", "--on", "ffpp-c23:tiny", "--frames", "1", "--errors", "0",
                "--strides", "32", "--bands", "2", "--widths", "equal", "--band-frames", "1",
                "--workers", "0", "--device", "cpu"],
    "audit": ["audit", "run", "--out", "audited", "--data", "tiny"],
    "compare": ["compare", "run", "--out", "compared"],
    "dashboard": ["dashboard", ".", "--dry-run", "--out", "board.json", "--project", "p"],
    "export": ["export", "run", "--out", "student", "--format", "safetensors", "--data", "tiny"],
    "detect": ["detect", "student", "face.png", "clip.mp4", "--json", "--backend", "torch",
               "--frames", "2", "--detector", "none", "--threshold", "0.5", "--batch-size", "4",
               "--workers", "1", "--time-limit", "20"],
    "table": ["table", "3", "--dry-run", "--student", "resnet18_thin", "--method", "vanilla",
              "--seeds", "2", "--data", "ffpp=tiny", "--runs", "runs", "--workers", "1",
              "--set", "trainer.precision=32-true"],
    "figure": ["figure", "4", "--dry-run", "--data", "ffpp=tiny", "--runs", "runs"],
    "bundle": ["report", "--runs", ".", "--bundle", "all.tokd"],
    "report": ["report", "--runs", ".", "--table", "3", "--dataset", "ffpp", "--out", "report"],
}  # fmt: skip
FILES = ("one.yaml", "run/fit.yaml", "run/metrics.json", "list.csv", "run/checkpoints/best.ckpt",
         "student/model.json", "student/model.safetensors", "clip.mp4", "face.png",
         "tiny/splits/test.json", "run/metrics.csv", "run/test_frames.csv")  # fmt: skip
JUNK = (
    "", " ", "x", "-1", "0", "1.5", "1e30", "nan", "inf", "null", "true", "None", "[]", "[1, 2]",
    "{a: 1}", "{", "99999999999999999999", "../..", "/dev/null/none", "/dev/null", "tiny",
    "list.csv", "one.yaml", "a b", "%s", "%(x)s", "é人", "--", "-", "\n", "*", "a=b",
    "=", ":", "own:",
    "torch.nn.Linear", "os.system", "kornia.augmentation.RandomJPEG", "TOKD",
    "vit_tiny_patch16_224", "resnet18.nosuchtag", "x" * 300,
)  # fmt: skip
# What would not be a mistake but a large job, which no test can wait for.
_LARGE = {"--identities", "--seeds", "--workers", "--data.num_workers", "--size", "--data.size",
          "--tile", "--frames", "--bands", "--trainer.devices", "--trainer.num_nodes",
          "--time-limit", "--trainer.max_epochs"}  # fmt: skip
_KEPT = {"--dry-run", "--identities", "--data.samples_per_epoch", "--trainer.max_epochs"}
_UNKNOWN = (
    ["--colour", "red"], ["--data.rooot=tiny"], ["--model.studnet=x"], ["--trainer.gpus=1"],
    ["stray"], ["--model.distiller.gamma=2"], ["--config=missing.yaml"], ["--data", "Nothing"],
    ["--model", "torch.nn.Linear"], ["--trainer.callbacks=Nope"], ["--data.augmentation=[]x"],
    ["--model.pretrained=list.csv"], ["--model.student.pretrained=x"], ["--ckpt_path=list.csv"],
    ["--model.distiller=AT"], ["--model.teacher=run/checkpoints/best.ckpt"], ["--print_config"],
    ["--model.teacher=list.csv"], ["--data.splits=tiny"], ["--data.quality=c99"], ["-h"],
    ["--trainer.limit_train_batches=x"], ["--model.optimizer=torch.optim.Nope"],
    ["--model.optimizer.lr=-1"], ["--model.lr_scheduler=null"], ["--data.frames_per_video=0"],
    ["--data.balance=whole"], ["--data.root=list.csv"], ["--data.root=videos"],
    ["--seed_everything=x"], ["--trainer.max_time=x"], ["--trainer.logger=x"],
)  # fmt: skip


def make_place(place: Path) -> None:
    """Make what the command lines name, but for ``run`` and ``student``."""
    sys.path.append(str(ROOT / "tests" / "data"))
    from tiny_videos import film, make_ffpp_videos

    from tokd_lightning.demo.video import encode

    make_ffpp(place / "tiny", ids=6)
    make_ffpp_videos(place / "videos", qualities=("c23",), frames=3)
    encode(film(3, 4), place / "clip.mp4", "c23")
    Image.fromarray(draw(1, 1, 64, 1)).save(place / "face.png")
    splits = {"000": "train", "001": "train", "002": "val", "003": "val"}
    with (place / "list.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "label", "split", "video", "method"])
        for path in sorted(place.glob("tiny/*/*/c23/faces/*/*.png")):
            video, method = path.parent.name, path.parts[-5]
            kind = ["real", ""] if method == "youtube" else ["fake", method]
            split = splits.get(video[:3], "test")
            rows.writerow([path.relative_to(place), kind[0], split, video, kind[1]])
    text = (ROOT / "experiments/demo_vanilla.yaml").read_text(encoding="utf-8")
    (place / "one.yaml").write_text(text.replace("../configs", str(ROOT / "configs")))
    for name in ("experiments", "configs"):
        (place / name).symlink_to(ROOT / name)


def copy_of(place: Path, case: "Case", where: Path) -> set[str]:
    """Make a copy of the place with the file that the case has spoilt; return what is in it."""
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(place, where, copy_function=os.link, symlinks=True)
    if case.file is not None and case.content is not None:
        (where / case.file).unlink()
        (where / case.file).write_bytes(case.content)
    return inside(where)


def inside(folder: Path) -> set[str]:
    """Return what is in a folder, without the notes of the driver and locks that are let go."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return found - {".stderr", ".stdout"}


def wrong_with(case: "Case", code: int | None, said: str, left: set[str]) -> str | None:
    """Return what a command line did that it must not do.

    Args:
        case: The command line.
        code: Its exit code; None where it was killed because it hung.
        said: Standard error.
        left: What is there that was not.
    """
    told = [line for line in said.splitlines() if line.startswith("tokd: ")]
    if code is None:
        return "it hangs"
    if "Traceback" in said or code not in ({0, 1, 2} if case.verb.startswith("verify") else {0, 2}):
        return f"exit code {code}: {said[-2000:]}"
    if code == 2 and len(told) != 1:
        return f"{len(told)} lines that begin with tokd: {said[-2000:]}"
    if code == 2 and left:
        return f"it left {sorted(left)[:5]} ({told[0]})"
    return None


class Case(NamedTuple):
    """A command line, and a file that is another than it should be."""

    verb: str
    args: list[str]
    file: str | None = None
    content: bytes | None = None
    what: str = ""


def mutate(rng: random.Random, verb: str, place: Path) -> Case:
    """Make one mistake, or two, in a valid command line or in a file that it reads.

    Args:
        rng: Where chance comes from.
        verb: A key of ``VALID``.
        place: The folder that has the files.
    """
    args = list(VALID[verb])
    if rng.random() < 0.25:
        read = [name for name in FILES if any(_names(arg, name) for arg in args)]
        if read:
            name = rng.choice(read)
            content = _spoil(rng, (place / name).read_bytes(), name)
            return Case(verb, args, name, content, f"spoil {name}")
    done = []
    for _ in range(rng.choice((1, 1, 1, 2))):
        change = rng.choice((_junk, _junk, _junk, _drop, _swap, _misspell, _unknown, _missing,
                             _order, _double))  # fmt: skip
        args = change(rng, args)
        done.append(change.__name__)
    return Case(verb, args, what="+".join(done))


def _names(arg: str, name: str) -> bool:
    value = arg.split("=", 1)[-1].split(":", 1)[-1]
    return bool(value) and (name == value or name.startswith(f"{value}/"))


def _spoil(rng: random.Random, content: bytes, name: str) -> bytes:
    kind = rng.choice(("cut", "empty", "junk", "line", "byte", "word", "twice", "list"))
    lines = content.splitlines(keepends=True)
    if kind == "cut":
        return content[: rng.randrange(len(content))]
    if kind == "empty":
        return b""
    if kind == "junk":
        return rng.randbytes(200)
    if kind == "byte":
        at = rng.randrange(len(content))
        byte = rng.choice((b"\0", b"\xff", b"\t", b"{", b":", b'"', b","))
        return content[:at] + byte + content[at:]
    if kind == "line" and len(lines) > 1:
        del lines[rng.randrange(len(lines))]
    elif kind == "word" and lines:
        at = rng.randrange(len(lines))
        head, _, _ = lines[at].partition(b": ")
        lines[at] = head + b": " + rng.choice(JUNK).encode() + b"\n"
    elif kind == "twice" and lines:
        lines.insert(rng.randrange(len(lines)), rng.choice(lines))
    elif kind == "list":
        return b"[1, 2, {a: b}]\n"
    return b"".join(lines)


def _options(args: list[str]) -> list[int]:
    return [i for i, arg in enumerate(args) if i and arg.split("=")[0] not in _KEPT]


def _set(args: list[str], at: int, value: str) -> list[str]:
    name, equals, _ = args[at].partition("=")
    large = name if equals else args[at - 1]
    if large in _LARGE and value.lstrip("-").startswith(("9", "1e")):
        value = "-7"
    new = f"{name}={value}" if equals and name.startswith("--") else value
    return [*args[:at], new, *args[at + 1 :]]


def _junk(rng: random.Random, args: list[str]) -> list[str]:
    at = [i for i in _options(args) if "=" in args[i] or not args[i].startswith("--")]
    return _set(args, rng.choice(at), rng.choice(JUNK)) if at else args


def _missing(rng: random.Random, args: list[str]) -> list[str]:
    at = [i for i in _options(args) if "=" in args[i] or not args[i].startswith("--")]
    if not at:
        return args
    i = rng.choice(at)
    return [*args[:i], args[i] + rng.choice(("_", "/x", ".old", "x")), *args[i + 1 :]]


def _drop(rng: random.Random, args: list[str]) -> list[str]:
    at = [i for i in _options(args) if args[i - 1] not in _KEPT]
    i = rng.choice(at) if at else 0
    return args[:i] + args[i + 1 :] if i else args


def _double(rng: random.Random, args: list[str]) -> list[str]:
    i = rng.randrange(1, len(args)) if len(args) > 1 else 0
    return [*args, args[i]] if i else args


def _swap(rng: random.Random, args: list[str]) -> list[str]:
    at = [i for i in _options(args) if args[i - 1] not in _KEPT | _LARGE and
          args[i].split("=")[0] not in _LARGE]  # fmt: skip
    if len(at) < 2:
        return args
    i, j = rng.sample(at, 2)
    values = [args[k].partition("=")[2] or args[k] for k in (i, j)]
    return _set(_set(args, i, values[1]), j, values[0])


def _misspell(rng: random.Random, args: list[str]) -> list[str]:
    i = rng.choice([0, *(i for i in _options(args) if args[i].startswith("--"))])
    name, equals, value = args[i].partition("=")
    at = rng.randrange(len(name))
    letter = rng.choice((name[at] * 2, "", name[at].upper(), "_"))
    return [*args[:i], name[:at] + letter + name[at + 1 :] + equals + value, *args[i + 1 :]]


def _unknown(rng: random.Random, args: list[str]) -> list[str]:
    return [*args, *rng.choice(_UNKNOWN)]


def _order(rng: random.Random, args: list[str]) -> list[str]:
    rest = args[1:]
    rng.shuffle(rest)
    return [args[0], *rest]

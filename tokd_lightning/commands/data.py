"""Commands on data sets: ``demo``, ``prepare``, ``verify``, ``show``."""

import argparse
import shlex
from pathlib import Path
from typing import Any

from tokd_lightning.commands import asked
from tokd_lightning.errors import renamed

# Option names in messages about data sets, which training uses too.
_OUR_WORDS = {
    r" \(--data\.quality\)": " (--quality)",
    r"--splits \(--data\.splits in training\)": "--splits",
    r"--data\.(splits|quality)": r"--\1",
    r"with --data\.root": "as PATH",
    r"\(--data\.root\)": "(--root)",
    r"by --data\.root": "as PATH",
}


def add_to(commands: Any) -> None:
    """Add these commands to the parser."""
    demo = commands.add_parser("demo", help="make a synthetic mini-FF++ to try everything on")
    demo.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder to make")
    demo.add_argument(
        "--identities", type=int, metavar="N", help="number of people (120, or one per photograph)"
    )
    demo.add_argument(
        "--faces",
        type=Path,
        metavar="DIR",
        help="folder of photographs to use instead of drawn faces",
    )
    demo.add_argument(
        "--landmarks",
        type=Path,
        metavar="CSV",
        help="landmarks of the photographs: file name, then x, y pairs",
    )
    demo.add_argument(
        "--quality", nargs="+", default=["c23", "c40"], metavar="Q", help="compressions (c23 c40)"
    )
    demo.add_argument(
        "--seed", type=int, default=0, metavar="S", help="another seed, other faces (0)"
    )
    demo.set_defaults(run=_demo)

    prepare = commands.add_parser("prepare", help="videos of a data set to frames of faces")
    prepare.add_argument(
        "layout", choices=("ffpp", "celebdf", "folder"), help="how the videos are laid out"
    )
    prepare.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set")
    prepare.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder to write the frames to"
    )
    prepare.add_argument("--quality", nargs="+", metavar="Q", help="compressions to take (all)")
    prepare.add_argument("--methods", nargs="+", metavar="M", help="manipulations of FF++ (all)")
    prepare.add_argument(
        "--splits", type=Path, metavar="DIR", help="folder of the split files, if elsewhere"
    )
    prepare.add_argument(
        "--subset",
        action="store_true",
        help="take only the videos that are there, and trim the split files to them",
    )
    prepare.add_argument(
        "--frames", type=int, default=32, metavar="N", help="frames per video (32)"
    )
    prepare.add_argument(
        "--size", type=int, default=299, metavar="PX", help="side of the square frames (299)"
    )
    prepare.add_argument(
        "--margin", type=float, default=1.3, help="side of the square / side of the face (1.3)"
    )
    prepare.add_argument(
        "--detector",
        default="haar",
        metavar="D",
        help="a YuNet .onnx (recommended), haar (default), mtcnn, none, a .csv of boxes",
    )
    prepare.add_argument(
        "--encoding", choices=("jpeg", "png"), default="jpeg", help="of the frames (jpeg)"
    )
    prepare.add_argument(
        "--jpeg-quality", type=int, default=95, metavar="Q", help="quality of the JPEGs (95)"
    )
    prepare.add_argument(
        "--pack",
        action="store_true",
        help="store one uint8 array per video, which is fastest to train on",
    )
    prepare.add_argument(
        "--reencode",
        type=int,
        metavar="CRF",
        help="add each video, re-encoded by H.264 at this CRF, as c<CRF>",
    )
    prepare.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")
    prepare.set_defaults(run=_prepare)

    verify = commands.add_parser("verify", help="look for what silently spoils a data set")
    verify.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv or a .json")
    verify.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that a list's paths are relative to"
    )
    verify.add_argument(
        "--expect",
        choices=("ffpp", "celebdf-v1", "celebdf-v2"),
        help="compare with the published numbers of videos",
    )
    verify.add_argument("--quality", metavar="Q", help="compression to look at (all)")
    verify.add_argument(
        "--splits", type=Path, metavar="DIR", help="folder of the split files, if elsewhere"
    )
    verify.add_argument("--frames", type=int, metavar="N", help="frames wanted of each video (32)")
    verify.add_argument(
        "--size", type=int, metavar="PX", help="side that all frames must have, in pixels"
    )
    verify.add_argument("--quick", action="store_true", help="read only the headers of the files")
    verify.add_argument(
        "--json",
        nargs="?",
        const=True,
        type=Path,
        metavar="FILE",
        help="print JSON, or write it to FILE",
    )
    verify.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")
    verify.set_defaults(run=_verify)

    show = commands.add_parser("show", help="draw frames of a data set, or the errors of a run")
    show.add_argument("path", type=Path, metavar="PATH", help="a tree, a .csv, a .json, or a run")
    show.add_argument(
        "--out", type=Path, required=True, metavar="FILE.png", help="picture to write"
    )
    show.add_argument(
        "--root", type=Path, metavar="DIR", help="folder that the paths are relative to"
    )
    show.add_argument("--quality", metavar="Q", help="compression to show (all)")
    show.add_argument("--method", nargs="+", metavar="M", help="manipulations to show (all)")
    show.add_argument("--split", choices=("train", "val", "test"), help="split to show (all)")
    show.add_argument(
        "--identities", type=int, default=4, metavar="N", help="people, a row each (4)"
    )
    show.add_argument(
        "--tile", type=int, default=160, metavar="PX", help="side of each picture (160)"
    )
    show.add_argument("--cutoff", type=float, default=0.33, help="cutoff of the high-pass (0.33)")
    show.add_argument(
        "--seed", type=int, metavar="S", help="draw the videos at random by this seed"
    )
    show.set_defaults(run=_show)


def _demo(options: argparse.Namespace) -> int:
    from tokd_lightning.data.demo import make_demo

    make_demo(
        options.out,
        identities=options.identities,
        faces=options.faces,
        landmarks=options.landmarks,
        quality=options.quality,
        seed=options.seed,
    )
    _next("fit", "--config", "experiments/demo_teacher.yaml", "--data.root", options.out)
    return 0


def _prepare(options: argparse.Namespace) -> int:
    from tokd_lightning.data.prepare import prepare

    with renamed(_OUR_WORDS):
        code = prepare(**asked(options))
    if not code:
        _next("verify", options.out)
    return code


def _next(*arguments: object) -> None:
    print(f"next: {shlex.join(['tokd', *map(str, arguments)])}")


def _verify(options: argparse.Namespace) -> int:
    from tokd_lightning.data.verify import verify

    with renamed(_OUR_WORDS):
        return verify(**asked(options))


def _show(options: argparse.Namespace) -> int:
    from tokd_lightning.data.show import show

    with renamed(_OUR_WORDS):
        return show(**asked(options))

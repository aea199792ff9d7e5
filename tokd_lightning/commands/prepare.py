"""``tokd prepare``."""

import argparse
from pathlib import Path
from typing import Any

from tokd_lightning.commands import OUR_WORDS, asked, print_next
from tokd_lightning.errors import renamed


def add_to(commands: Any) -> None:
    """Add ``tokd prepare`` to the subcommands."""
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
    prepare.add_argument(
        "--clips",
        type=int,
        default=1,
        metavar="T",
        help="take the frames as clips of T consecutive ones, for --data.clip T (1)",
    )
    prepare.add_argument(
        "--masks", action="store_true", help="cut FF++'s mask videos like the fakes' frames"
    )
    prepare.add_argument(
        "--landmarks",
        metavar="L",
        help="write 68 points of every frame: dlib, or a .csv of them in the videos' pixels",
    )
    prepare.add_argument("--workers", type=int, metavar="N", help="processes (one per core)")
    prepare.set_defaults(run=_prepare)


def _prepare(options: argparse.Namespace) -> int:
    from tokd_lightning.prepare import prepare
    from tokd_lightning.prepare.landmarks import check_source, find_landmarks, take_landmarks

    wanted = asked(options)
    source = wanted.pop("landmarks")
    with renamed(OUR_WORDS):
        if source is not None:
            check_source(source)
        code = prepare(**wanted)
        if source == "dlib":
            code |= find_landmarks(options.out, workers=options.workers)
        elif source is not None:
            code |= take_landmarks(Path(source), options.out)
    if not code:
        print_next("verify", options.out)
    return code

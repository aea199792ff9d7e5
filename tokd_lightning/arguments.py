"""What the command line of a fit or a test has beside Lightning's options."""

from lightning.pytorch.cli import LightningArgumentParser


def add_arguments(parser: LightningArgumentParser) -> None:
    """Add where runs lie, what to do with an earlier one, where curves go, when to save."""
    add = parser.add_argument
    add("--runs", type=str, default="runs", help="folder of all run folders")
    add("--name", type=str | None, default=None, help="of the run; else made of its cell")
    add("--rerun", action="store_true", help="fit again; the earlier run is set aside")
    add("--reuse", action="store_true", help="end with success where the run is finished")
    add(
        "--log",
        default="wandb",
        help="beside the CSV: wandb, tensorboard, both with a comma, none",
    )
    add(
        "--pictures",
        type=int | None,
        default=None,
        help="frames in the test's pictures.png, 0: none; null: a real one and one of each forgery",
    )
    add(
        "--checkpoint_every",
        type=int | None,
        default=None,
        help="batches from one save of last.ckpt to the next; null: as saving stays below 1 % of "
        "the time",
    )
    add("--monitor", default="val/frame/acc", help="selects best.ckpt, the highest wins")

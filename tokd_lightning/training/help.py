"""Help of the commands that LightningCLI parses: written here, so that it is there at once."""

import argparse
from typing import Any

HELP = {
    "fit": "train a teacher or distil a student: --config experiments/….yaml",
    "validate": "score the validation split with a run's best checkpoint",
    "test": "score the test split; writes scores and metrics to the run's folder",
    "predict": "score the test split's frames without metrics",
    "inputs": "print the hashes that a fit would record of its data and teacher, as JSON",
    "probe": "time a few batches of a fit: tokd probe --out FILE and the fit's own options",
}
_EXAMPLES = {
    "fit": (
        "tokd fit --config experiments/ffpp_teacher.yaml --data.root data/ffpp",
        "tokd fit --config experiments/ffpp_res18t.yaml --data.root data/ffpp \\",
        "    --data.quality c23 --seed_everything 1",
        "tokd fit --config experiments/ffpp_res18t.yaml --data.root data/ffpp \\",
        "    --also --model.distiller vid --also --model.distiller at   # one teacher",
        "tokd fit --config experiments/own_res18t.yaml --data.root /data \\",
        "    --data.manifest list.csv",
    ),
    **{verb: (f"tokd {verb} runs/NAME",) for verb in ("validate", "test", "predict")},
    "inputs": ("tokd inputs --config experiments/ffpp_res18t.yaml --data.root data/ffpp",),
    "probe": ("tokd probe --out FILE.json --config experiments/ffpp_res18t.yaml",),
}
_ALONE = {"inputs", "probe"}  # take no run in the place of --config
_NOTE = """\
Options change what the files of --config say, wherever they stand. All options
of a class: --model.help DistillModule, --data.help FFPPDataModule, and so on.
All keys: --print_config and docs/training.md. Methods, networks and
augmentations of your own: docs/extend.md.
"""
_CONFIG = {
    "config FILE": "experiment (experiments/*.yaml) or a run's fit.yaml; again for changes to it",
    "print_config": "print the configuration that results, and end",
    "seed_everything N": "seed of weights, sampling and augmentation (0)",
}
_RUN = {
    "runs DIR": "folder of all run folders (runs)",
    "name NAME": "name of the run's folder; else made from data, network, method and seed",
    "rerun": "set an earlier run aside and fit again",
    "reuse": "do nothing if the run is finished already",
    "log V": "where curves also go: wandb (default), tensorboard, none; a,b: both",
    "checkpoint_every N": "save last.ckpt every N batches (default: under 1 %% of the time)",
    "monitor KEY": "metric of the validation that selects best.ckpt (val/frame/acc)",
}
_TOGETHER = {
    "also [FILE]": "begin another fit, which shares batches and teacher: docs/cohorts.md",
    "test": "test each run after training",
    "logs DIR": "with --also: append what each fit says to DIR/NAME.log",
}
_SCORING = {
    "runs DIR": "folder of all run folders (runs)",
    "ckpt_path FILE": "checkpoint to score with (default: the run's best.ckpt)",
    "log V": "where metrics also go: wandb (default), tensorboard, none; a,b: both",
    "pictures N": "frames that a test draws in pictures.png (4; 0: none)",
}
_STUDENT = {
    "student NET": "resnet18_thin, resnet34_thin, xception, any name of timm, or module.Class",
    "teacher CKPT": "best.ckpt of a teacher's run",
    "distiller METHOD": "TOKD, Vanilla, Hinton, ADD, …: tokd methods lists them",
    "distiller.KEY X": "an option of the method, such as alpha_rgb, dim, branches",
    "warm_up_epochs N": "epochs in which only the classifier learns (0)",
    "rotation_optimizer.lr X": "learning rate of the rotations, eta_R",
}
_TEACHER = {
    "backbone NET": "network of each branch (xception)",
    "branches B": "both, rgb or frequency",
    "cutoff X": "legs of the triangle that the high-pass zeroes (0.33)",
    "rfam R": "spatial, elementwise or none",
}
_BOTH = {
    "pretrained P": "true for ImageNet weights by timm, false, or a file of weights",
    "optimizer.lr X": "learning rate",
    "optimizer CLASS": "such as torch.optim.AdamW",
    "lr_scheduler CLASS": "such as torch.optim.lr_scheduler.StepLR",
    "interval I": "the schedulers move each epoch or each step",
    "clip X": "largest norm of the gradient in a step",
    "accumulate N": "compute a batch in N parts, where it does not fit the memory (1)",
    "compile B": "true: torch.compile",
}
_DATA = {
    "root DIR": "folder of the data set",
    "quality Q": "compression: raw, c23, c40; of Celeb-DF: original, …",
    "splits DIR": "split files of FF++, test list of Celeb-DF, if elsewhere",
    "methods LIST": "manipulations of FF++: '[Deepfakes, FaceSwap]'",
    "manifest FILE": "a .csv or a DeepfakeBench .json, of data of your own",
    "name NAME": "name of the data set in tables and run names",
    "frames_per_video N": "evenly spaced frames of each video (32)",
    "size PX": "side of a decoded image (299)",
    "crop PX": "side of a square cut out of it, at random in training",
    "batch_size N": "samples per step, over all processes (64)",
    "num_workers N": "dataloader workers (4)",
    "balance B": "none, repeat_real, half_batch, loss_weight or paired",
    "samples_per_epoch N": "training samples per epoch (default: every frame)",
    "augmentation LIST": "modules of Kornia; [] is none (default: a horizontal flip)",
    "mean X": "subtracted from images in [0, 1] (0.5)",
    "std X": "divided by (0.5)",
    "teacher_quality Q": "the teacher reads the same frames at this quality",
    "leave_out LIST": "forgeries only the test has, reported as unseen: '[Deepfakes]'",
    "degrade LIST": "random H.264, JPEG, resizing, blur, noise, brightness: all, or names",
    "on_error E": "fail or skip, at an unreadable frame (fail)",
}
_TRAINER = {
    "max_epochs N": "epochs",
    "accelerator A": "auto, cpu, gpu",
    "devices N": "GPUs or processes",
    "num_nodes N": "machines",
    "precision P": "32-true, 16-mixed, bf16-mixed (default: what the GPU is made for)",
    "limit_train_batches N": "fewer batches per epoch; also limit_val_batches, limit_test_batches",
    "val_check_interval X": "validate within the epoch",
    "max_time DD:HH:MM:SS": "stop after",
    "fast_dev_run B": "true: one batch of everything; nothing is kept",
    "deterministic B": "true: the same bits on a GPU again",
}


def add_help(commands: Any, verb: str) -> None:
    """Add a command with its help; LightningCLI parses its arguments.

    Args:
        commands: The subcommands of ``tokd``.
        verb: A key of :data:`HELP`.
    """
    what, fitting = HELP[verb], verb not in {"validate", "test", "predict"}
    command = commands.add_parser(
        verb,
        help=what,
        description="\n".join([f"{what[0].upper()}{what[1:]}.", "", *_examples(verb)]),
        usage=f"tokd {verb} {'' if verb in _ALONE else 'RUN | '}--config FILE [--OPTION VALUE ...]",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=_NOTE,
    )
    if verb == "probe":
        _show(command, "probe", "", {"out FILE": "JSON with seconds and memory"})
    _show(command, "configuration", "", _CONFIG)
    _show(command, "run", "", _RUN if fitting else _SCORING)
    if verb == "fit":
        _show(command, "several fits", "", _TOGETHER)
    if fitting:
        _show(command, "model: a student (DistillModule)", "model.", _STUDENT)
        _show(command, "model: a teacher (TeacherModule)", "model.", _TEACHER)
        _show(command, "model: both", "model.", _BOTH)
    _show(command, "data", "data.", _DATA)
    _show(command, "trainer (Lightning)", "trainer.", _TRAINER)


def _examples(verb: str) -> list[str]:
    return ["examples:", *(f"  {line}" for line in _EXAMPLES[verb])]


def _show(command: Any, title: str, prefix: str, options: dict[str, str]) -> None:
    group = command.add_argument_group(title)
    for key, text in options.items():
        name, _, value = key.partition(" ")
        kind: dict[str, Any] = {"metavar": value} if value else {"action": "store_true"}
        group.add_argument(f"--{prefix}{name}", help=text, **kind)

"""Descriptions and examples of ``tokd VERB --help``."""

import argparse
import textwrap

# Verb -> what it does, and lines that can be typed. Those of a fit have their own.
_VERBS = {
    "init": (
        "Copy the shipped experiments and their parts to a folder, to edit them there.",
        "tokd init work",
    ),
    "demo": (
        "Make a synthetic mini-FF++, videos and frames, to try everything on.",
        "tokd demo --out data/demo",
    ),
    "prepare": (
        "Cut the faces out of a data set's videos, at the same place for all qualities of a scene.",
        "tokd prepare ffpp FF++ --out data/ffpp",
        "tokd prepare celebdf Celeb-DF --out data/celebdf --reencode 40",
    ),
    "landmarks": (
        "Find 68 points on every face, for forged training data and for networks that need them.",
        "tokd landmarks data/ffpp",
    ),
    "verify": (
        "Look for what silently spoils a data set. The exit code is 1 where something is wrong.",
        "tokd verify data/ffpp --expect ffpp",
        "tokd verify list.csv --root /data",
    ),
    "show": (
        "Draw frames of a data set, real next to forged, or the errors of a run.",
        "tokd show data/ffpp --out frames.png",
        "tokd show runs/NAME --out errors.png",
        "tokd show data/demo --forge sbi --out forged.png",
    ),
    "detectors": (
        "List the detectors of Table 2 side by side: size, source, needs and what is left open.",
        "tokd detectors",
        "tokd detectors --size 320",
    ),
    "methods": (
        "List the distillation methods side by side, with what they add to a student.",
        "tokd methods --student resnet34_thin",
    ),
    "evaluate": (
        "Score runs on any data sets: AUC, EER, calibration, eight perturbations.",
        "tokd evaluate runs/NAME --on celebdf:data/celebdf --robustness",
    ),
    "explain": (
        "Show what runs look at: Grad-CAM, a teacher's RFAMs, frequency bands.",
        "tokd explain runs/TEACHER runs/STUDENT",
    ),
    "audit": (
        "Check what the results of runs are worth: faults, intervals, other data, a verdict.",
        "tokd audit runs/NAME",
        "tokd audit runs/NAME --data data/ffpp",
    ),
    "compare": (
        "Put runs side by side: a table and the curves.",
        "tokd compare runs/NAME runs/OTHER",
    ),
    "dashboard": (
        "Save a workspace and a report of all runs in a W&B project.",
        "tokd dashboard runs --dry-run",
    ),
    "tour": (
        "Do the whole main job on the demo data: teacher, students, test, table, figures.",
        "tokd tour --quality c23 c40 --seed 0 1",
    ),
    "export": (
        "Write a student as ONNX or safetensors, with its preprocessing and a model card.",
        "tokd export runs/NAME --out models/NAME",
    ),
    "detect": (
        "Score images, folders and videos with an exported student.",
        "tokd detect models/NAME photo.jpg clip.mp4 folder --annotate pictures",
        "tokd detect models/NAME --watch folder --json",
    ),
    "push": (
        "Upload an exported student, its card and its metrics to the Hugging Face Hub.",
        "tokd push models/NAME OWNER/NAME --dry-run",
    ),
    "pull": (
        "Download an exported student from the Hugging Face Hub.",
        "tokd pull OWNER/NAME",
    ),
    "table": (
        "Train, test and show what a table of the paper needs; finished runs are skipped.",
        "tokd table 3 --dry-run",
        "tokd table 3 --dataset ffpp --student resnet18_thin --seeds 3",
        "tokd table 3 --cluster slurm --slurm partition=gpu gpus_per_node=1",
    ),
    "figure": (
        "Train, test and draw what a figure of the paper needs; finished runs are skipped.",
        "tokd figure 4 --dry-run",
    ),
    "report": (
        "Write a page of the paper's tables and figures, published numbers next to those of runs.",
        "tokd report --table 3 figure4 --out report",
        "tokd report --bundle runs.tokd",
        "tokd report runs.tokd",
    ),
}


def describe(verb: str, command: argparse.ArgumentParser) -> None:
    """Add the description and examples of a command to its help.

    Args:
        verb: The command.
        command: Its parser.
    """
    if verb in _VERBS:
        what, *lines = _VERBS[verb]
        examples = "\n".join(f"  {line}" for line in lines)
        command.description = f"{textwrap.fill(what, 79)}\n\nexamples:\n{examples}"
        command.formatter_class = argparse.RawDescriptionHelpFormatter

"""Kinds of findings of ``tokd verify``, each with severity, meaning and remedy."""

from typing import Literal, NamedTuple

Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


class Kind(NamedTuple):
    """Kind of finding: severity, and meaning and remedy in one clause each."""

    severity: Severity
    meaning: str
    remedy: str


KINDS: dict[str, Kind] = {
    # Splits and names
    "split-file": Kind(
        "error",
        "a split file is missing or malformed",
        "put the published file there, or name its folder with --splits",
    ),
    "not-listed": Kind(
        "error",
        "a part of the data cannot be listed",
        "fix what the message says, then verify again",
    ),
    "video-in-two-splits": Kind(
        "error", "a video is in more than one split", "keep it in one of them"
    ),
    "identity-in-two-splits": Kind(
        "error",
        "a person is on screen in more than one split",
        "use the published split files, or move all of that person's videos to one split",
    ),
    "leaked-donor": Kind(
        "error",
        "a fake shows the face of a person whose own videos are in another split",
        "remove the fake, or its pair from the split file",
    ),
    "missing-video": Kind(
        "error",
        "the splits name a video that is not there",
        "download or extract it, or take its pair out of the split file",
    ),
    "missing-method": Kind(
        "error",
        "a method lacks a quality, or a kind of files, that others have",
        "get it, or leave the method or the quality out",
    ),
    "missing-file": Kind(
        "error", "a manifest names a file that is not there", "restore it, or drop the row"
    ),
    "one-class": Kind(
        "error",
        "all videos of training or validation are real, or all are fake",
        "add the others; training refuses to learn, or to select a checkpoint, by one class",
    ),
    "not-for-training": Kind(
        "note",
        "a quality has one class only, or no training or validation videos",
        "nothing if it is only evaluated; --data.val_fraction takes validation from training",
    ),
    "missing-real": Kind(
        "warning",
        "the real video that a fake was made from is not there at that quality",
        "get it, if real and fake are to be compared",
    ),
    "same-name": Kind(
        "warning",
        "a video is there twice, under one name with two suffixes",
        "remove one of the two",
    ),
    "same-frame": Kind(
        "error",
        "a video has two images with one frame number",
        "remove one of the two; training refuses them",
    ),
    "wrong-label": Kind(
        "error",
        "a label is not real (0) or fake (1), or contradicts its method or folder",
        "0 is method 'real', 1 any other; in Celeb-DF's test list 1 is real",
    ),
    "label-against-path": Kind(
        "error",
        "a label contradicts the real or fake in the file's path",
        "find out which is true: 1 is fake, 0 is real",
    ),
    "frame-number": Kind(
        "note",
        "a name holds several numbers, of which the one that varies is taken for the frame's",
        "see that it is; a column frame of a manifest says otherwise",
    ),
    "subset": Kind(
        "note",
        "the tree holds a part of the published videos, its split files are trimmed to it",
        "nothing; fit, test, evaluate and report say so too",
    ),
    "unlisted-video": Kind(
        "note", "no split names this video, so it is not used", "leave it, or list it"
    ),
    "unexpected-count": Kind(
        "error",
        "a number of videos differs from the published one",
        "find what is missing or was added",
    ),
    # Files of any kind
    "empty-file": Kind("error", "a file of zero bytes", "extract or download it again"),
    "broken-link": Kind("error", "a symbolic link leads nowhere", "mount its target or remove it"),
    "link-loop": Kind(
        "warning", "a symbolic link leads back into its own folder", "remove it; it is not followed"
    ),
    "unreadable-folder": Kind(
        "error", "a folder cannot be opened", "give yourself the right to read it"
    ),
    "windows-path": Kind(
        "note",
        "a list names files with back-slashes",
        "nothing for tokd, which reads them; other programs may not",
    ),
    "windows-name": Kind(
        "warning",
        "a file has a back-slash in its name: an archive of Windows was unpacked wrongly",
        "unpack it again with a program that makes folders of back-slashes",
    ),
    "stray-file": Kind("note", "a file or folder that no layout knows", "nothing; it is not read"),
    "hidden-file": Kind("note", "a hidden image, video or folder", "nothing; it is not read"),
    # Frames
    "unreadable-frame": Kind(
        "error",
        "an image is cut off, broken or none at all",
        "extract it again, or train with --data.on_error skip",
    ),
    "odd-size": Kind(
        "warning",
        "an image has another size than its neighbours",
        "crop it again; training stretches it to a square",
    ),
    "not-square": Kind(
        "error",
        "images are not square, and training squashes them to a square",
        "cut the faces out, as tokd prepare does",
    ),
    "shape-by-class": Kind(
        "error",
        "real and fake images have different sizes or proportions, which a network learns instead",
        "cut both alike, as tokd prepare does",
    ),
    "wrong-suffix": Kind(
        "note", "an image's format is not the one of its name", "know that a JPEG is lossy"
    ),
    "empty-video": Kind(
        "warning", "a video without a single frame", "see problems.csv, or extract it again"
    ),
    "missed-faces": Kind(
        "note",
        "videos without a face, as tokd prepare recorded them",
        "where the shares of real and fake differ, prepare with another --detector (YuNet)",
    ),
    "short-video": Kind(
        "warning",
        "a video has fewer frames than wanted",
        "extract more, or accept that all it has are used",
    ),
    "unpaired-frames": Kind(
        "warning",
        "the qualities of one video have different frames",
        "extract the same frames of each; paired training drops the others",
    ),
    # Masks of fakes
    "missing-mask": Kind(
        "warning",
        "a fake or a frame of it has no mask, while others of its method have",
        "prepare again with --masks; training with masks leaves such frames out, up to 1 %",
    ),
    "extra-mask": Kind("note", "a mask without a frame", "nothing; it is not read"),
    "mask-size": Kind(
        "error",
        "a mask has another size than its frame",
        "cut both alike, as tokd prepare --masks does",
    ),
    "empty-mask": Kind(
        "warning",
        "a fake's mask is all 0: nothing of the frame is marked as forged",
        "look at the mask video; a face that leaves the crop gives one",
    ),
    # The same content twice
    "duplicate-across-labels": Kind(
        "error", "the same content is both real and fake", "find out which label is true"
    ),
    "duplicate-across-splits": Kind(
        "error", "the same content is in two splits", "remove one of the two"
    ),
    "duplicate-videos": Kind(
        "warning", "the same content belongs to two videos", "remove one of the two"
    ),
    "same-in-two-qualities": Kind(
        "warning",
        "the same content stands for two qualities of a video",
        "get the one that is missing: one folder is not what it is called",
    ),
    "repeated-frames": Kind(
        "note", "at least half of a video's frames repeat others of it", "look at the video"
    ),
    # Video streams
    "broken-video": Kind(
        "error", "a video cannot be opened or decoded to its end", "download it again"
    ),
    "wrong-crf": Kind(
        "error",
        "the encoder's own setting contradicts the folder's quality",
        "get the right file: this one has another compression",
    ),
    "unknown-crf": Kind(
        "note",
        "the stream does not tell how it was compressed, so its folder's name is unproven",
        "nothing, if you trust its source",
    ),
}

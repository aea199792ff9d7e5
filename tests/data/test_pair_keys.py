import pytest

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.data.manifest import build
from tokd_lightning.data.pairs import pair
from tokd_lightning.data.qualities import same_quality
from tokd_lightning.errors import TokdError


def test_every_part_of_the_key_tells_frames_apart():
    keys = [
        (dataset, method, video, frame)
        for dataset in ("ffpp", "dfd")
        for method in ("real", "FaceSwap")
        for video in ("000_001", "000_002")
        for frame in (3, 4)
    ]

    def path(quality, key):
        return "/".join(map(str, (quality, *key)))

    def manifest(quality, keys):
        about = [(*key[:3], "000", "", quality, key[3], int(key[1] != "real")) for key in keys]
        return build(
            (path(quality, key), *row, "train") for key, row in zip(keys, about, strict=True)
        )

    paired, lonely = pair(manifest("c40", keys), manifest("c23", keys[::-1]))
    assert paired["path"].tolist() == [path("c40", key) for key in keys]
    assert paired["teacher_path"].tolist() == [path("c23", key) for key in keys]
    assert not len(lonely)
    for gone in range(len(keys)):
        rest = keys[:gone] + keys[gone + 1 :]
        paired, lonely = pair(manifest("c40", keys), manifest("c23", rest))
        assert lonely["path"].tolist() == [path("c40", keys[gone])]
        assert len(paired) == len(rest)


def test_names_of_one_quality_are_no_pair(tmp_path):
    assert same_quality("raw", "c0")
    assert not same_quality("c0", "c23")
    for quality, teacher in (("c40", "c40"), ("raw", "c0"), ("c0", "raw")):
        with pytest.raises(TokdError, match=f"teacher_quality {teacher} is the student's own"):
            FFPPDataModule(tmp_path, quality=quality, teacher_quality=teacher)
    with pytest.raises(TokdError, match="max_unpaired is a share between 0 and 1, not 2"):
        FFPPDataModule(tmp_path, teacher_quality="c23", max_unpaired=2)

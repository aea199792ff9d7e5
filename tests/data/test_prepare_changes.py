import os
import re
import shutil

import pytest
from tiny_videos import DEEPFAKES, YOUTUBE, contents, film, make_ffpp_videos, rows_of

from tokd_lightning.demo.video import encode
from tokd_lightning.errors import TokdError
from tokd_lightning.prepare import group, prepare, run

SMALL = {"frames": 2, "size": 32, "detector": "none", "workers": 1}


@pytest.fixture
def tree(tmp_path):
    return make_ffpp_videos(tmp_path / "tree")


@pytest.fixture
def worked(monkeypatch):
    """The videos of the groups that were worked on."""
    seen = []

    def spy(job):
        seen.append(job.group[0][0].video.name)
        return group.prepare_group(job)

    monkeypatch.setattr(run, "prepare_group", spy)
    return seen


def test_videos_that_came_or_changed_since_are_done_anew_and_only_they(tree, tmp_path, worked):
    whole, out = tmp_path / "whole", tmp_path / "out"
    late, changed = (
        tree / YOUTUBE / "c23/videos/001.mp4",
        tree / DEEPFAKES / "c23/videos/002_003.mp4",
    )
    prepare("ffpp", tree, whole, **SMALL)
    content, stat = late.read_bytes(), late.stat()
    late.unlink()
    first = changed.read_bytes(), changed.stat()
    encode(film(7, 4), changed, "c23")
    prepare("ffpp", tree, out, **SMALL)
    assert "missing" in {row["problem"] for row in rows_of(out / "problems.csv")}
    assert contents(out) != contents(whole)
    late.write_bytes(content)
    changed.write_bytes(first[0])
    os.utime(late, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    os.utime(changed, ns=(first[1].st_atime_ns, first[1].st_mtime_ns))
    worked.clear()
    prepare("ffpp", tree, out, **SMALL)
    assert sorted(worked) == ["001", "002"]
    assert contents(out) == contents(whole)
    worked.clear()
    prepare("ffpp", tree, out, **SMALL)
    assert worked == []


def test_a_video_repaired_between_two_attempts_is_not_taken_as_it_was(tree, tmp_path, worked):
    out = tmp_path / "out"
    video = tree / YOUTUBE / "c23/videos/000.mp4"
    whole = video.read_bytes()
    video.write_bytes(b"")
    prepare("ffpp", tree, out, **SMALL)
    record = out / "prepare.json"
    record.write_text(record.read_text().replace("true", "false"))
    video.write_bytes(whole)
    worked.clear()
    prepare("ffpp", tree, out, **SMALL)
    assert worked == ["000"]
    assert "unreadable" not in {row["problem"] for row in rows_of(out / "problems.csv")}


def test_videos_that_no_split_names_are_listed(tree, tmp_path, capsys):
    places = [f"{DEEPFAKES}/c23/videos/000_005.mp4", "manipulated_sequences/Mine/c23/videos/0.mp4"]
    source = tree / YOUTUBE / "c23/videos/000.mp4"
    for place in places:
        (tree / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, tree / place)
    out = tmp_path / "out"
    prepare("ffpp", tree, out, **SMALL)
    unlisted = [row for row in rows_of(out / "problems.csv") if row["problem"] == "unlisted"]
    assert [row["detail"] for row in unlisted] == places
    assert {row["method"] for row in unlisted} == {"Deepfakes", "Mine"}
    assert "unlisted: 2 video files" in " ".join(capsys.readouterr().out.split())
    prepare("ffpp", tree, tmp_path / "some", **SMALL, methods=["Deepfakes"])
    unlisted = [r for r in rows_of(tmp_path / "some/problems.csv") if r["problem"] == "unlisted"]
    assert [row["detail"] for row in unlisted] == places[:1], "what was left out on purpose is not"


def test_outputs_that_would_lie_in_one_another_are_refused(tree, tmp_path):
    flat = tmp_path / "flat/train/fake"
    (flat / "deep").mkdir(parents=True)
    source = tree / YOUTUBE / "c23/videos/000.mp4"
    for name in ("deep.mp4", "deep/a0.mp4"):
        shutil.copy(source, flat / name)
    with pytest.raises(TokdError, match="would be where those of"):
        prepare("folder", tmp_path / "flat", tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_a_name_that_no_manifest_can_hold_is_refused_before_any_work(tree, tmp_path):
    flat = tmp_path / "flat/train/real"
    flat.mkdir(parents=True)
    shutil.copy(tree / YOUTUBE / "c23/videos/000.mp4", os.fsencode(flat) + b"/caf\xe9.mp4")
    with pytest.raises(TokdError, match="or is not UTF-8"):
        prepare("folder", tmp_path / "flat", tmp_path / "out", **SMALL)
    assert not (tmp_path / "out").exists()


def test_boxes_from_a_spreadsheet_are_read(tree, tmp_path):
    plain, excel = tmp_path / "plain.csv", tmp_path / "excel.csv"
    rows = ["video,frame,x,y,w,h", *(f"00{n},0,10,8,20,20" for n in range(6))]
    plain.write_text("\n".join(rows))
    excel.write_bytes(b"\xef\xbb\xbf" + "\r\n".join(rows).replace(",", ";").encode())
    made = []
    for boxes in (plain, excel):
        out = tmp_path / boxes.stem
        prepare("ffpp", tree, out, **SMALL | {"detector": str(boxes)})
        found = {k: v for k, v in contents(out).items() if k != "prepare.json"}
        found["manifest.csv"] = re.sub(rb"boxes-[0-9a-f]{16}", b"boxes", found["manifest.csv"])
        made.append(found)
    assert made[0] == made[1]


def test_a_box_beyond_any_picture_is_refused(tree, tmp_path):
    boxes = tmp_path / "b.csv"
    boxes.write_text("video,frame,x,y,w,h\n000,0,1,1,1e200,1e200\n")
    with pytest.raises(TokdError, match=r"b\.csv, line 2: .* below 1e\+06"):
        prepare("ffpp", tree, tmp_path / "out", **SMALL | {"detector": str(boxes)})


@pytest.mark.parametrize("pack", [False, True])
def test_what_was_deleted_from_the_output_is_made_again(tree, tmp_path, worked, pack):
    out = tmp_path / "out"
    prepare("ffpp", tree, out, **SMALL, pack=pack)
    whole = contents(out)
    place = out / DEEPFAKES / "c23/faces" / ("004_005.npy" if pack else "004_005")
    place.unlink() if pack else shutil.rmtree(place)
    worked.clear()
    prepare("ffpp", tree, out, **SMALL, pack=pack)
    assert worked == ["004"]
    assert contents(out) == whole


@pytest.mark.parametrize("other", [{"pack": True}, {"encoding": "png"}])
def test_a_quality_that_would_do_nothing_is_refused(tree, tmp_path, other):
    with pytest.raises(TokdError, match="only JPEG has a quality"):
        prepare("ffpp", tree, tmp_path / "out", **SMALL, jpeg_quality=50, **other)


def test_a_quality_s_name_with_a_line_break_is_refused(tree, tmp_path):
    flat = tmp_path / "flat/train/real"
    flat.mkdir(parents=True)
    shutil.copy(tree / YOUTUBE / "c23/videos/000.mp4", flat)
    with pytest.raises(TokdError, match="control characters"):
        prepare("folder", tmp_path / "flat", tmp_path / "out", **SMALL, quality=["a\nb"])

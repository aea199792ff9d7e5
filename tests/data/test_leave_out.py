"""`--data.leave_out`: a forgery that training and validation do not have."""

import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from tokd_lightning.data.ffpp import FFPPDataModule
from tokd_lightning.errors import TokdError
from tokd_lightning.metrics.classification import seen_and_unseen


def data(root, *methods, **options):
    defaults = {"quality": "c23", "size": 16, "batch_size": 8, "num_workers": 0}
    return FFPPDataModule(root, **(defaults | options), leave_out=list(methods))


def test_the_forgery_is_in_the_test_alone(tiny_ffpp, capsys):
    module, whole = data(tiny_ffpp, "Deepfakes"), data(tiny_ffpp)
    module.setup("fit")
    assert (
        "Deepfakes is left out of training (24 frames) and validation (8); its 8 test frames are "
        "reported separately"
    ) in capsys.readouterr().out
    for split in ("train", "val"):
        expected = whole.table(split)
        expected = expected[expected["method"] != "Deepfakes"].reset_index(drop=True)
        pd.testing.assert_frame_equal(module.table(split), expected)
    pd.testing.assert_frame_equal(module.table("test"), whole.table("test"))


def test_other_data_have_another_hash_but_the_same_fold(tiny_ffpp):
    module, whole, none = (data(tiny_ffpp, *them) for them in (["FaceSwap"], [], []))
    assert whole.data_hashes() == none.data_hashes()
    assert module.data_hash() != whole.data_hash()
    assert module.fold_hash() == whole.fold_hash()
    assert module.partial == whole.partial == {}


@pytest.mark.parametrize(
    ("methods", "message"),
    [
        (
            ["Deepfake"],
            "leave_out Deepfake: no fake of that method; choose from Deepfakes, Face2Face",
        ),
        (["real"], "leave_out real: no fake of that method"),
        (["Deepfakes", "Face2Face", "FaceSwap", "NeuralTextures"], "no fake is left in the split"),
    ],
)
def test_wrong_names_are_one_line(tiny_ffpp, methods, message):
    with pytest.raises(TokdError, match=message):
        data(tiny_ffpp, *methods).setup("fit")


def test_seen_and_unseen_are_each_against_all_reals():
    scores = [0.1, 0.4, 0.35, 0.8, 0.7, 0.3, 0.9]
    methods = ["real", "real", "real", "A", "A", "B", "B"]
    table = pd.DataFrame({"p_fake": scores, "method": methods, "dataset": "d"})
    table["label"] = (table["method"] != "real").astype(int)
    table["video"] = [str(n) for n in range(7)]
    found = seen_and_unseen(table, ["B"])
    for name, its in (("seen", "A"), ("unseen", "B")):
        rows = table[table["method"].isin(["real", its])]
        assert found[f"{name}/frame/auc"] == roc_auc_score(rows["label"], rows["p_fake"])
    assert seen_and_unseen(table, []) == {}
    assert "unseen/frame/auc" not in seen_and_unseen(table, ["C"])

"""Exported students on the Hugging Face Hub, or on a server that speaks its protocol."""

from __future__ import annotations

import logging
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tokd_lightning.deploy.record import CARD, DETECTOR, RECORD, REFERENCE, Model, open_model
from tokd_lightning.errors import TokdError
from tokd_lightning.extras import require
from tokd_lightning.files import write_text

HUB = "hf:"
"""What a model's path begins with to name a repository in place of a folder."""
_README = "README.md"
_USE = f"""
## Use

With `tokd-lightning[hub]`; OWNER/NAME is this repository.

```
tokd detect {HUB}OWNER/NAME photo.jpg clip.mp4
```
"""
_RESULTS = ("metrics.json", "test_frames.csv")
_TAGS = ["deepfake-detection", "face-forgery-detection", "knowledge-distillation", "onnx"]
_SHOWN = {"auc": "roc_auc", "acc": "accuracy", "balanced_acc": "balanced_accuracy"}


def push(
    model: Path,
    repo: str,
    *,
    results: Path | None = None,
    private: bool = False,
    dry_run: bool = False,
) -> int:
    """Upload an exported student in one commit.

    Args:
        model: Folder written by ``tokd export``.
        repo: Repository, ``OWNER/NAME``; created if it does not exist.
        results: Run folder whose metrics and test predictions are uploaded too.
        private: Whether a new repository is private.
        dry_run: Whether to print what would be uploaded instead.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: There is no exported model, a file of it has changed, the run has no results, or
            the Hub refuses or cannot be reached.
    """
    require("huggingface_hub", "push")
    opened = open_model(model)
    _refuse_changed(opened)
    files = {name: opened.folder / name for name in _names(opened)}
    for name in _RESULTS if results is not None else ():
        assert results is not None
        if not (results / name).is_file():
            raise TokdError(f"{results} has no {name}: tokd test {results}")
        files[name] = results / name
    readme = _readme(opened)
    if dry_run:
        print(readme.split("\n---\n")[0] + "\n---")
        for name, file in files.items():
            print(f"{name}: {file.stat().st_size / 1e6:.2f} MB")
        print(f"{_README}: the front matter above and {CARD}")
        print(f"dry run: nothing was sent to {_endpoint()}/{repo}")
        return 0
    from huggingface_hub import CommitOperationAdd, HfApi

    operations = [CommitOperationAdd(name, file) for name, file in files.items()]
    operations.append(CommitOperationAdd(_README, readme.encode()))
    with _one_line(repo):
        api = HfApi(endpoint=_endpoint())
        api.create_repo(repo, private=private, exist_ok=True)
        done = api.create_commit(repo, operations, commit_message=f"Add {opened.name}")
    print(f"{len(operations)} files: {done.commit_url}")
    return 0


def pull(repo: str, out: Path | None = None) -> int:
    """Download an exported student to a folder.

    Args:
        repo: Repository, ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.
        out: Folder, new or empty; by default ``models/NAME``.

    Returns:
        The exit code, 0.

    Raises:
        TokdError: The folder holds files, the repository has no exported model or an altered one,
            or the Hub refuses or cannot be reached.
    """
    require("huggingface_hub", "pull")
    repo = repo.removeprefix(HUB)
    out = out or Path("models") / repo.partition("@")[0].rpartition("/")[2]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise TokdError(f"{out} exists: give another --out")
    opened = open_model(fetch(repo))
    _refuse_changed(opened)
    out.mkdir(parents=True, exist_ok=True)
    names = _names(opened)
    if (opened.folder / _README).is_file():
        text = (opened.folder / _README).read_text(encoding="utf-8")
        write_text(out / CARD, text.partition("\n---\n\n")[2].partition(_USE)[0])
    for name in reversed(names):  # model.json, which makes it a model, last
        shutil.copyfile(opened.folder / name, out / name)
    print(f"{out}: {', '.join(names)}")
    return 0


def fetch(repo: str) -> Path:
    """Download a repository's exported student to the cache of the Hub.

    Args:
        repo: ``OWNER/NAME`` or ``OWNER/NAME@REVISION``.

    Returns:
        The folder in the cache.

    Raises:
        TokdError: The Hub refuses or cannot be reached, or there is no such repository.
    """
    require("huggingface_hub", f"detect {HUB}{repo}")
    from huggingface_hub import snapshot_download

    name, _, revision = repo.partition("@")
    known = [RECORD, _README, DETECTOR, *REFERENCE, "*.onnx", "*.safetensors"]
    with _one_line(name):
        place = snapshot_download(
            name, revision=revision or None, allow_patterns=known, endpoint=_endpoint()
        )
    if not (Path(place) / RECORD).is_file():
        raise TokdError(f"{_endpoint()}/{name} is not an exported model: it has no {RECORD}")
    return Path(place)


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def _names(model: Model) -> list[str]:
    """Return the files of a model that exist, without its card."""
    names = [str(file["name"]) for file in model.files.values()]
    there = [name for name in (DETECTOR, *REFERENCE) if (model.folder / name).is_file()]
    return [RECORD, *names, *there]


def _refuse_changed(model: Model) -> None:
    for kind in model.files:
        model.file(kind)


def _readme(model: Model) -> str:
    """Return the model card with the front matter that the Hub reads."""
    from huggingface_hub import EvalResult, ModelCardData

    card = model.folder / CARD
    try:
        text = card.read_text(encoding="utf-8")
    except OSError as error:
        raise TokdError(f"{card} cannot be read: {error.strerror}: export again") from error
    trained = model.record["trained"]
    data = str(trained.get("data", "unknown"))
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=data,
            dataset_name=f"{data}, test split",
            metric_type=metric,
            metric_name=f"{key} ({level}s)",
            metric_value=float(value),
        )
        for level in ("frame", "video")
        for key, metric in _SHOWN.items()
        if isinstance(value := model.record.get("metrics", {}).get(f"test/{level}/{key}"), float)
    ]
    about: dict[str, Any] = {
        "library_name": "onnx",
        "pipeline_tag": "image-classification",
        "tags": [*_TAGS, *(["synthetic-training-data"] if trained.get("synthetic") else [])],
    }
    if results:
        about |= {"model_name": model.name, "eval_results": results}
    return f"---\n{ModelCardData(**about).to_yaml().strip()}\n---\n\n{text}{_USE}"


@contextmanager
def _one_line(repo: str) -> Iterator[None]:
    """Raise the errors of huggingface_hub as one line."""
    from huggingface_hub import errors
    from huggingface_hub.utils.tqdm import disable_progress_bars

    if not sys.stderr.isatty():
        disable_progress_bars()
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    where = _endpoint()
    try:
        yield
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError) as error:
        raise TokdError(
            f"{where} has no {repo}, or it is private and you are not logged in: hf auth login"
        ) from error
    except errors.HfHubHTTPError as error:
        said = str(error).strip().splitlines()
        raise TokdError(f"{where} refuses {repo}: {said[0] if said else error!r}") from error
    except errors.HFValidationError as error:
        raise TokdError(f"{repo!r} is not the name of a repository: OWNER/NAME") from error
    except (errors.LocalEntryNotFoundError, errors.OfflineModeIsEnabled) as error:
        raise TokdError(f"{where} cannot be reached, and {repo} is not in the cache") from error
    except Exception as error:  # httpx's or requests' errors, by version
        if type(error).__module__.partition(".")[0] not in ("httpx", "httpcore", "requests"):
            raise
        raise TokdError(f"{where} cannot be reached: {error}") from error

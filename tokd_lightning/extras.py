"""Optional packages, and the extra of the installation that brings each."""

from importlib.util import find_spec

from tokd_lightning.errors import TokdError

# Module -> extra. The plain installation brings what `tokd detect` needs.
EXTRAS = {
    **dict.fromkeys(
        (
            "torch", "torchvision", "lightning", "torchmetrics", "timm", "kornia", "torch_dct",
            "jsonargparse", "wandb", "pandas", "matplotlib", "jinja2", "safetensors", "onnx",
            "onnxscript",
        ),
        "train",
    ),
    "cv2": "faces",
    "dlib": "landmarks",
    "face_recognition_models": "landmarks",
    "huggingface_hub": "hub",
    "lmdb": "lmdb",
    **dict.fromkeys(("mlflow", "sqlalchemy", "alembic"), "mlflow"),
    "optuna": "optuna",
    "peft": "lora",
    "submitit": "slurm",
    "tensorboard": "tensorboard",
    "wandb_workspaces": "dashboard",
}  # fmt: skip


def install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f'pip install "tokd-lightning[{extra}]"'


def require(module: str, verb: str) -> None:
    """Raise a TokdError that names the extra if a module is not installed.

    Args:
        module: The module.
        verb: The command that needs it.
    """
    if find_spec(module) is None:
        raise _missing(module, verb)


def missing_package(error: ModuleNotFoundError, verb: str) -> TokdError | None:
    """Return the line that names the extra for a missing module.

    Args:
        error: The failed import.
        verb: The command that needs it.

    Returns:
        The error to report; None if the module is no optional package, or is installed.
    """
    name = (error.name or "").partition(".")[0]
    if name not in EXTRAS or find_spec(name) is not None:
        return None
    return _missing(name, verb)


def _missing(module: str, verb: str) -> TokdError:
    command = install(EXTRAS[module])
    return TokdError(f"tokd {verb} needs {module}, which is not installed: {command}")

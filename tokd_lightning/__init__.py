"""Two-in-one knowledge distillation for facial forgery detection, on PyTorch Lightning."""

__version__ = "0.1.0"

"""Loggers: curves as CSV, W&B and TensorBoard."""

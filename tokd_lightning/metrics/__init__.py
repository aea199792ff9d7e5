"""Metrics computed from scores."""

"""What measures speed, as ratios: `python -m benchmarks.<name>`."""

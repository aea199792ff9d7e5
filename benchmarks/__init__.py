"""Speed benchmarks, reported as ratios: `python -m benchmarks.<name>`."""

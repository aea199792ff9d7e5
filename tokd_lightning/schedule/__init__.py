"""How the cells of a table are run: plan, jobs, workers, SLURM."""

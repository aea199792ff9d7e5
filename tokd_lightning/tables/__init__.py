"""Tables and figures, made only from run folders; the paper's numbers are in ``published/``."""

"""Tables and figures, made from run folders alone; the paper's numbers lie in ``published/``."""

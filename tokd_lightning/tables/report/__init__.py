"""The report: the paper's tables and figures beside the runs that repeat them."""

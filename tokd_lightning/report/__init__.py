"""Report that compares the paper's tables and figures with the runs that reproduce them."""

"""Around ``trainer.fit``: command line, checks, launchers, console, results."""

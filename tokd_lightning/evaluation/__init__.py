"""Evaluation of a table of scores: metrics at frame and video level (Sec. 5.2) and beyond."""

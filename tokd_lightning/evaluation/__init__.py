"""What a table of scores is worth: frame and video level metrics (Sec. 5.2)."""

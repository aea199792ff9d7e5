"""Layouts: one module per on-disk form of a data set, each read into rows of the manifest."""

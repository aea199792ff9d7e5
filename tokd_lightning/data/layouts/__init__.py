"""One module per way of laying a data set out on disk: a tree becomes rows of the manifest."""

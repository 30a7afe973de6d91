"""Sources: how the rows of metadata files are counted, addressed and read."""

"""One module per image format. `registry` maps file suffixes to readers and writers."""

"""One file per image format; `table` says which is read and written by what."""

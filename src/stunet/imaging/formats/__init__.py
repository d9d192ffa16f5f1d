"""One file per image format; `registry` says which is read and written by what."""

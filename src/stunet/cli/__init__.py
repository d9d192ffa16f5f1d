"""The command line, a thin layer over the other packages. Each command has one file, with a dataclass and `run()`."""

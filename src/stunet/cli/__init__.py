"""The command line: a door that only calls the rooms. One file for each command, a dataclass with `run()`."""

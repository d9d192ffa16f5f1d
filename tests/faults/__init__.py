"""Commands that are ended at each of their steps on files."""

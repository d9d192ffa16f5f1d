"""Segment scans, one or thousands, and write labels. Torch is not loaded before the first scan is read."""

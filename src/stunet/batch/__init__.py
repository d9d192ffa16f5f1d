"""Many scans with one model. Torch is not loaded before the first scan is being read."""

"""Files in, label files out, for one scan or for many. Torch is not loaded before the first scan is being read."""

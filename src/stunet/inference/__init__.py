"""Windows over a volume, within a memory budget."""

"""Pictures of scans, label maps and numbers. Only this room imports matplotlib."""

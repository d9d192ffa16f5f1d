"""Read scans, write label maps, and convert between their grids and the network's."""

"""What of the module needs no Slicer: the client of a server, and a segmentation that runs beside the window."""

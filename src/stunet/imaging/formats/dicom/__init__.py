"""DICOM series become volumes: files are found, headers grouped into series, and a series read onto a regular grid."""

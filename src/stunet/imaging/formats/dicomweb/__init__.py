"""Series on a DICOMweb server: found (QIDO-RS), retrieved (WADO-RS), and results stored (STOW-RS)."""

"""Model files, checkpoints of nnU-Net, the catalogue, and transfer."""

"""STU-Net, and the networks that the paper compares it with."""

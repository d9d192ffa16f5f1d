"""nnU-Net's plans and dataset.json, read once into typed objects that every other room shares."""

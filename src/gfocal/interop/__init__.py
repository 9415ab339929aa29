"""Weights of other projects, turned into gfocal checkpoints: plain tensors are read, nothing is executed."""

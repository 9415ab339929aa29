"""What to train on somebody's data, on their machine, in their time: ``gfocal train auto``."""

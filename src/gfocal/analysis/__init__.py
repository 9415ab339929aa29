"""`gfocal data stats`: what a detector can learn from a data set."""

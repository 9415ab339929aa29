"""`gfocal export`: a detector as a file of another runtime, and the proof of it."""

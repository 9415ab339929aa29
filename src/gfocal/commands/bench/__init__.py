"""`gfocal bench`: detectors of any kind beside each other, each in a process of its own."""

"""Writing detectors for other runtimes, and proving that what was written does the same."""

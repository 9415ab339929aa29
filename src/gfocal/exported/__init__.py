"""Running exported detectors: nothing here needs torch, but for files that are torch's own."""

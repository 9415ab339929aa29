"""Loading detectors, predicting, drawing."""

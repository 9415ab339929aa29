"""Labelled images: reading data sets, changing images and boxes together, making batches."""

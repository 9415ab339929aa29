"""Labelled pictures: reading data sets, changing pictures and boxes together, making batches."""

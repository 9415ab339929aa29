"""A page to review suspect labels on: a crop of each, with the label and what the model finds."""

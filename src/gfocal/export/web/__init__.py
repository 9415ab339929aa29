"""A page that runs a detector in a browser."""

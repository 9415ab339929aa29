"""Random changes to images and their boxes."""

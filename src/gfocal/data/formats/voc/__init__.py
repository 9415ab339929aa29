"""Pascal VOC files."""

"""Necks: they make the levels of the pyramid from the backbone's maps."""

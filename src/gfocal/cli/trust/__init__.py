"""Verbs about what a detector knows of its own errors, and of those in labels."""

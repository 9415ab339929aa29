"""Published weights by name: which there are, and how they come onto this machine."""

"""What each row costs, timed in turn."""

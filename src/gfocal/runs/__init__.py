"""What a run folder holds, and what a run starts from."""

"""What a detector comes to above a score: precision, recall, F1, confusion, and images that show it."""

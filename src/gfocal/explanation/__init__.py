"""What a detector believes of each thing that it found: distributions of edges, parts of the score, runners-up."""

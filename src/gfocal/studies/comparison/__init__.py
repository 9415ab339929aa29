"""From finished runs to differences, intervals and verdicts."""

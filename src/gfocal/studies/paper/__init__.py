"""The tables of the paper and its claims, as data."""

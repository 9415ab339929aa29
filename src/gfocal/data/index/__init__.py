"""A data set in memory: packed columns, and what is made of them."""

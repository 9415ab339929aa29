"""Files of tensors: read as data, within bounds, and checked against their sums."""

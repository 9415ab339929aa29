"""Networks as graphs of what they compute: which layer of one is which of another, without their names."""

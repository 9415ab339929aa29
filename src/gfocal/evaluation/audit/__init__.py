"""Which labels of a data set a detector contradicts, and what such a list is worth: faults planted into a copy."""

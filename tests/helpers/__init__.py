"""What many tests build on: tiny runs, data sets in every layout, planted faults, started processes."""

"""What every page shares: layout, numbers."""

"""Label formats: finding, reading, writing and converting them."""

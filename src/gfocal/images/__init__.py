"""Images as files and tensors: decoding, reading, sizes, tiles."""

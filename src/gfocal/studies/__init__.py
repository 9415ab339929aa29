"""The tables and figures of the paper: what fills them, and how fast their detectors are."""

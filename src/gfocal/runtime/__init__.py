"""The machine and what runs on it: precision, processes, memory, failures."""

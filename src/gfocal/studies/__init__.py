"""The paper's tables as data, the runner that fills them with runs of our own, and what their claims come to."""

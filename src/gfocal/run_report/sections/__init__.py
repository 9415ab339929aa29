"""The parts of the page, in words, tables and charts."""

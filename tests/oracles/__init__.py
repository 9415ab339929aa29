"""Slow float64 code written from the papers alone; nothing here imports gfocal."""

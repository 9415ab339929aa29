"""Backbones: an image in, one map a stride out."""

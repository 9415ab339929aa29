"""Trained weights: which are here."""

from __future__ import annotations

from gfocal.catalogue.home import model_folder, read_record
from gfocal.runs.checkpoint import BEST


def is_here(name: str) -> bool:
    """Whether published weights were fetched before."""
    return read_record(name) is not None and (model_folder(name) / BEST).is_file()

"""Trained weights: which are here, and which could be had from where."""

from __future__ import annotations

from gfocal.catalogue.addresses import addresses
from gfocal.catalogue.entries import Published
from gfocal.catalogue.home import model_folder, read_record
from gfocal.catalogue.web import CutOff, host_of
from gfocal.runs.checkpoint import BEST


def is_here(name: str) -> bool:
    """Whether published weights were fetched before."""
    return read_record(name) is not None and (model_folder(name) / BEST).is_file()


def hosts_of(entry: Published) -> frozenset[str]:
    """Who is asked for a file."""
    return frozenset(host_of(address.url) for address in addresses(entry))


def is_silent(error: BaseException | None) -> bool:
    """Whether a host was asked again and again without an answer, as behind a firewall: that takes minutes."""
    while error is not None:
        if isinstance(error, CutOff):
            return True
        error = error.__cause__
    return False

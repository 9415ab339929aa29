"""The page: nothing is fetched, no script runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import gfocal
from gfocal.report.html import render
from gfocal.run_report.content import Content
from gfocal.run_report.sections.accuracy import curves_section, numbers_section
from gfocal.run_report.sections.calibration import calibration_section
from gfocal.run_report.sections.data import data_section
from gfocal.run_report.sections.faults import faults_section
from gfocal.run_report.sections.pictures import pictures_section
from gfocal.run_report.sections.provenance import origin_section
from gfocal.run_report.sections.training import training_section
from gfocal.run_report.sections.trust import edges_section, scores_section
from gfocal.run_report.sections.verdict import tiles, verdict
from gfocal.utils.text import counted, visible


@dataclass(frozen=True)
class Page:
    """The page as text, what it says first, and the bytes that its images take."""

    text: str
    verdict: tuple[str, ...]
    image_bytes: int


def render_page(content: Content) -> Page:
    """Everything, in the order in which a person would ask for it."""
    measured, found = content.measured, content.measured.evaluation.result
    card = content.provenance.card or {}
    pictures, size = pictures_section(content)
    training = training_section(content.history, card.get("calls") or [])
    words = verdict(measured)
    subject = (
        f"{content.split} split of {content.data}: {counted(found.num_images, 'picture')}, "
        f"{counted(found.num_objects or 0, 'object')}, "
        f"{counted(len(measured.findings.index.names), 'class', 'classes')}."
    )
    text = render(
        "gfocal.run_report",
        "run.html",
        partial(visible, keep="\n\t"),
        title=f"{content.model} on {content.data}",
        subject=subject,
        when=content.when,
        verdict=words,
        tiles=tiles(measured),
        warnings=list(content.warnings),
        sections=[
            *([] if content.history is None else [training]),
            numbers_section(measured),
            curves_section(measured),
            faults_section(measured),
            pictures,
            scores_section(measured),
            edges_section(measured),
            calibration_section(measured.evaluation.calibration, content.uncalibrated),
            *([training] if content.history is None else []),
            data_section(content.splits, content.split, content.held_out),
            origin_section(content.provenance),
        ],
        footer=f"Made by gfocal {gfocal.__version__} report. It loads nothing and runs no script.",
    )
    return Page(text, tuple(words), size)

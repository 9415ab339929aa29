"""HTML pages that stand alone: nothing is fetched, no script runs, light and dark."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup


def render(package: str, template: str, shown: Callable[[str], str] = str, /, **content: Any) -> str:
    """A page from a template of ``package``, whose templates may extend ``page.html`` of this package.

    Args:
        package: dotted name of the package whose folder ``templates`` holds the template.
        template: file name.
        shown: applied to every text of ``content`` before it is escaped.
        content: what the template shows; every text is escaped.

    Raises:
        jinja2.UndefinedError: the template names something that is not in ``content``.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("gfocal.report")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: shown(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    return environment.get_template(template).render(**content)

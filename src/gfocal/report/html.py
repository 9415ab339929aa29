"""HTML pages that stand alone: nothing is fetched, no script runs, light and dark."""

from __future__ import annotations

from typing import Any

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def render(package: str, template: str, **content: Any) -> str:
    """A page from a template of ``package``, whose templates may extend ``page.html`` of this package.

    Args:
        package: dotted name of the package whose folder ``templates`` holds the template.
        template: file name.
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
    )
    return environment.get_template(template).render(**content)

"""Our own markup inside Streamlit: Jinja templates in the look of the reports, shown in shadow roots.

Everything is escaped by Jinja; the browser side puts finished markup into place and sends clicks back.
"""

from __future__ import annotations

from functools import cache
from importlib import resources
from typing import Any

import jinja2


@cache
def environment() -> jinja2.Environment:
    """Templates of the app first, then those of the reports, whose macros they use."""
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader("jobs.app"), jinja2.PackageLoader("reports")]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def render(template: str, **view: Any) -> str:
    """A template of the app, finished."""
    return environment().get_template(template).render(**view)


@cache
def style() -> str:
    """The reports' style, with its variables on the host of the shadow root, and the app's additions."""
    of_reports = (resources.files("reports") / "templates" / "style.css").read_text(encoding="utf-8")
    return of_reports.replace(":root", ":host") + asset("app.css")


def asset(name: str) -> str:
    """A script or style of the app."""
    return (resources.files("jobs.app") / "templates" / name).read_text(encoding="utf-8")

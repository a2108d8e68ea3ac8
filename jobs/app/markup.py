"""Markup inside Streamlit: Jinja templates in the look of the reports, shown in shadow roots.

Everything is escaped by Jinja. Two components show it in the browser: a panel that sends clicks back, and the
player.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

import reports.render
from reports.translation import _, language, plural

TEMPLATES = Path(__file__).with_name("templates")


@cache
def environment() -> jinja2.Environment:
    """Templates of the app first, then those of the reports, whose macros they use."""
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader([TEMPLATES, reports.render.TEMPLATES]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.globals.update({"_": _, "plural": plural, "language": language})
    return found


def render(template: str, **view: Any) -> str:
    """A template of the app, finished."""
    return environment().get_template(template).render(**view)


@cache
def style() -> str:
    """The reports' style, with its variables on the host of the shadow root, and the app's additions."""
    return reports.render.asset("style.css").replace(":root", ":host") + asset("app.css")


def asset(name: str) -> str:
    """A script or style of the app."""
    return (TEMPLATES / name).read_text(encoding="utf-8")


@cache
def _component(name: str) -> Callable[..., Any]:
    """A component of the browser, defined once a process: Streamlit warns when a name comes again."""
    import streamlit as st

    made: Callable[..., Any] = st.components.v2.component(
        f"callanalytics_{name}", html='<div class="sheet"></div>', css=style(), js=asset(f"{name}.js")
    )
    return made


def panel(markup: str, *, key: str, on_sent: Callable[[str], None] | None = None) -> None:
    """Show finished markup. A click on something with `data-send` calls `on_sent` with its value."""
    import streamlit as st

    def sent() -> None:
        value = st.session_state[key].get("sent")
        if on_sent is not None and isinstance(value, str):
            on_sent(value)

    _component("panel")(key=key, data={"html": markup}, on_sent_change=sent)


def player(data: dict[str, Any], *, key: str, on_pressed: Callable[[list[Any]], None]) -> None:
    """Show the player. `on_pressed` gets every review that the page has not seen acknowledged yet."""
    import streamlit as st

    def pressed() -> None:
        value = st.session_state[key].get("pressed")
        if isinstance(value, list):
            on_pressed(value)

    _component("player")(key=key, data=data, default={"pressed": []}, on_pressed_change=pressed)

"""The two pieces of our own in the browser: a panel that sends clicks, and the player."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import streamlit as st

from jobs.app.markup import asset, style

_SHEET = '<div class="sheet"></div>'
# Defined once a process: Streamlit warns when a name is registered again.
_panel = st.components.v2.component("callanalytics_panel", html=_SHEET, css=style(), js=asset("panel.js"))
_player = st.components.v2.component("callanalytics_player", html=_SHEET, css=style(), js=asset("player.js"))


def panel(markup: str, *, key: str, on_sent: Callable[[str], None] | None = None) -> None:
    """Show finished markup. A click on something with `data-send` calls `on_sent` with its value."""

    def sent() -> None:
        value = st.session_state[key].get("sent")
        if on_sent is not None and isinstance(value, str):
            on_sent(value)

    _panel(key=key, data={"html": markup}, on_sent_change=sent)


def player(data: dict[str, Any], *, key: str, on_pressed: Callable[[list[Any]], None]) -> None:
    """Show the player. `on_pressed` gets every review that the page has not seen acknowledged yet."""

    def pressed() -> None:
        value = st.session_state[key].get("pressed")
        if isinstance(value, list):
            on_pressed(value)

    _player(key=key, data=data, default={"pressed": []}, on_pressed_change=pressed)

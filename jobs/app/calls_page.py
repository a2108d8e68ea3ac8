"""Calls: the published database to filter and sort, one call to play and to review."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from callanalytics.errors import CallAnalyticsError
from ensemble.labels import SHARED_SIX
from jobs.app.call_views import list_view, player_view, read_press
from jobs.app.context import AppContext, context
from jobs.app.markup import panel, player, render
from jobs.app.published import SORTS, OpenedCall, Wanted
from jobs.reviews.queue import waiting_reviews
from jobs.reviews.reviews import give
from reports.formatting import localised

SCORE_STEP = 5  # percent


def show() -> None:
    """The page: the list, or the call that the address names."""
    here = context()
    try:
        call_id = st.query_params.get("call")
        if call_id:
            _call(here, call_id)
        else:
            _list(here)
    except CallAnalyticsError as problem:
        st.error(str(problem))
        if st.query_params.get("call") and st.button("Back to the list"):
            _leave()
            st.rerun()


def _list(here: AppContext) -> None:
    st.title("Calls")
    wanted = _filters(here)
    if (shape := (wanted.text, wanted.queues, wanted.since, wanted.until)) != st.session_state.get("shape"):
        st.session_state["shape"], st.session_state["page"] = shape, 0
    wanted = replace(
        wanted,
        sort=st.session_state.get("sort", "score"),
        descending=st.session_state.get("descending", True),
        page=st.session_state.get("page", 0),
    )
    listed = here.calls.find(wanted)
    panel(render("list.html", **list_view(listed, wanted)), key="list", on_sent=_sent)


def _filters(here: AppContext) -> Wanted:
    queues, first, last = here.calls.queues_and_days()
    text, days, chosen = st.columns([3, 2, 3])
    searched = text.text_input("Search", placeholder="call id, file, queue or agent", key="text")
    span = days.date_input("Days", value=[], min_value=first, max_value=last, key="days")
    picked = chosen.multiselect(
        "Queues", queues, format_func=lambda queue: queue or "no queue", placeholder="all", key="queues"
    )
    flags, fresh, least = st.columns([3, 3, 5])
    dates = span if isinstance(span, tuple) else (span,)
    return Wanted(
        text=searched,
        queues=tuple(picked),
        since=dates[0] if dates else None,
        until=dates[1] if len(dates) > 1 else None,
        flagged_only=flags.checkbox("Flagged only", key="flagged"),
        unreviewed_only=fresh.checkbox("Not reviewed yet", key="unreviewed"),
        least_score=least.slider("Frustration of at least (%)", 0, 100, 0, SCORE_STEP, key="least") / 100,
    )


def _sent(message: str) -> None:
    """A click in the list; runs before the page is drawn again."""
    what, _, value = message.partition(":")
    if what == "open":
        st.query_params["call"] = value
    elif what == "sort" and value in SORTS:
        again = st.session_state.get("sort", "score") == value
        st.session_state["descending"] = not st.session_state.get("descending", True) if again else True
        st.session_state["sort"], st.session_state["page"] = value, 0
    elif what == "page" and value.isdecimal():
        st.session_state["page"] = int(value)


def _leave() -> None:
    st.query_params.pop("call", None)


def _call(here: AppContext, call_id: str) -> None:
    opened = here.calls.open(call_id)
    st.button("← All calls", on_click=_leave)
    st.title(opened.page.call.when)
    panel(render("lead.html", page=opened.page, call=opened.page.call), key="lead")
    _review_desk(here, opened)
    # Kept under another key too, since Streamlit forgets what is typed when the field is not on the page.
    st.session_state["reviewer"] = st.text_input(
        "Your name, kept with your reviews", st.session_state.get("reviewer", ""), max_chars=100
    )
    panel(render("facts.html", page=opened.page), key="facts")


@st.fragment
def _review_desk(here: AppContext, opened: OpenedCall) -> None:
    """The player; a review runs this again and nothing else of the page."""
    call_id = opened.page.call.call_id
    acknowledged: set[str] = st.session_state.setdefault(f"pressed {call_id}", set())
    problem = st.session_state.pop("review problem", "")
    labels = here.calls.labels() or SHARED_SIX
    waiting = [review for review in waiting_reviews(here.workspace) if review.call_id == call_id]
    with localised(here.settings.report.written_locale):
        data = player_view(opened, waiting, labels, acknowledged, problem)
    player(data, key=f"player-{call_id}", on_pressed=partial(_pressed, here, call_id, acknowledged))


def _pressed(here: AppContext, call_id: str, acknowledged: set[str], sent: list[Any]) -> None:
    reviewer = (st.session_state.get("reviewer") or "").strip() or None
    for press_id, review in filter(None, (read_press(press, call_id, reviewer) for press in sent)):
        if press_id in acknowledged:
            continue
        acknowledged.add(press_id)
        try:
            give(here.workspace, [review])
        except (CallAnalyticsError, OSError) as problem:
            st.session_state["review problem"] = f"This review could not be kept: {problem}"

"""Compare: two ensembles on one call, or on a slice of a corpus."""

from __future__ import annotations

import streamlit as st

from callanalytics.errors import CallAnalyticsError
from ensemble.corpora import decode_clip
from ensemble.inference.ensemble import Ensemble
from ensemble.model_errors import EnsembleError
from jobs.app.comparison import (
    ClipsCompared,
    call_view,
    choose_clips,
    clips_view,
    compare_call,
    compare_clips,
    shared_labels,
    trained_on,
)
from jobs.app.context import AppContext, context
from jobs.app.markup import panel, render
from jobs.app.published import Wanted
from reports.formatting import clock, moment, score_text
from reports.report_source import Row

A_CALL, A_SLICE = "A call", "A slice of a corpus"


def show() -> None:
    """The page."""
    here = context()
    st.title("Compare two ensembles")
    offered = list(here.ensemble_folders())
    left, right = st.columns(2)
    names = (
        left.selectbox("First", offered, key="first"),
        right.selectbox("Second", offered, index=1, key="second"),
    )
    try:
        first, second = (here.ensemble(name) for name in names)
        if first.ensemble_id == second.ensemble_id:
            st.info(
                f"Both are the same ensemble ({first.ensemble_id}). Choose another; trained ones that were "
                "added to the registry are offered here, and those given to the app by --ensemble DIR."
            )
        on = st.segmented_control("On", [A_CALL, A_SLICE], default=A_CALL, required=True)
        if on == A_CALL:
            _call(here, names, first, second)
        else:
            _slice(here, names, first, second)
    except (CallAnalyticsError, EnsembleError) as problem:
        st.error(str(problem))


def _call(here: AppContext, names: tuple[str, str], first: Ensemble, second: Ensemble) -> None:
    text = st.text_input("Search calls", placeholder="call id, file, queue or agent")
    listed = here.calls.find(Wanted(text=text, sort="when"))
    if not listed.rows:
        st.info("No such call.")
        return
    rows = {row["call_id"]: row for row in listed.rows}
    call_id = st.selectbox("Call", list(rows), format_func=lambda key: _call_name(rows[key]))
    if not st.button("Compare on this call", type="primary"):
        return
    with st.spinner("Classifying"):
        segments, layout = here.calls.segments(call_id)
        audio = here.calls.audio(call_id)
        compared = compare_call(audio, segments, layout, first, second, here.settings)
    view = call_view(compared, segments, audio.duration_s, names, f"/call-audio/{call_id}")
    panel(render("compare.html", **view), key="compared")


def _call_name(row: Row) -> str:
    parts = (moment(row["started_local"]), row["queue"], clock(row["duration_s"]))
    return ", ".join(part for part in parts if part) + f", frustration {score_text(row['frustration_score'])}"


def _slice(here: AppContext, names: tuple[str, str], first: Ensemble, second: Ensemble) -> None:
    if not here.corpora:
        st.info("Start the app with --corpus FOLDER to compare on a corpus.")
        return
    folders = {folder.name: folder for folder in here.corpora}
    chosen = st.selectbox("Corpus", list(folders))
    n_each = st.slider("Clips of each emotion", 5, 100, 20, 5)
    if st.button("Compare on this slice", type="primary"):
        with st.spinner("Classifying"):
            clips = choose_clips(here.corpus(folders[chosen]), shared_labels(first, second), n_each)
            known = trained_on(first), trained_on(second)
            st.session_state["slice"] = compare_clips(clips, first, second), names, known
    if "slice" in st.session_state:
        compared, of, known = st.session_state["slice"]
        panel(render("compare.html", **clips_view(compared, of, known)), key="compared")
        _play_clip(compared)


def _play_clip(compared: ClipsCompared) -> None:
    different = [clip for clip, same in zip(compared.clips, compared.speech.same(), strict=True) if not same]
    if different:
        clip = st.selectbox("Play a clip", different, format_func=lambda c: f"{c.path.name} ({c.emotion})")
        st.audio(decode_clip(clip, 8_000), sample_rate=8_000)

"""Try: speak or upload, and see how the ensemble classifies it."""

from __future__ import annotations

from typing import Any

import streamlit as st

from callanalytics.errors import CallAnalyticsError
from ensemble.inference.ensemble import Ensemble
from ensemble.model_errors import ModelError
from jobs.app.answer import answer
from jobs.app.context import IN_USE, AppContext, context
from jobs.app.markup import panel, render
from jobs.app.utterance import (
    LONGEST_S,
    MAX_BYTES,
    Utterance,
    classify,
    keep_utterance,
    only_member,
)

EVERYBODY, NO_TARGET = "the whole ensemble", "no target"
RECORD, UPLOAD = "Record", "Upload a file"
SENTENCES: tuple[str, ...] = (
    "The parcel was left at the wrong door on Tuesday.",
    "I called you three times about the same bill.",
    "My number ends with four, seven, nine.",
    "The technician is coming at eleven o'clock.",
    "I would like to change the date of the appointment.",
    "The light on the box is green again.",
    "Das Paket liegt seit Dienstag bei der Nachbarin.",
    "Ich habe die Rechnung schon zweimal bekommen.",
    "Der Termin ist am Montag um halb neun.",
)
"""Sentences to speak with a feeling, written for this project: their words carry none, only the voice can."""


def show() -> None:
    """The page."""
    here = context()
    st.title("Try it with your own voice")
    ask, reply = st.columns([2, 3], gap="large")
    with ask:
        sound, target, sentence = _ask(here)
        ensemble, neutral_share = _choose(here)
    with reply:
        if ensemble is None:
            return
        if sound is None:
            panel(render("waiting.html"), key="answer")  # loads the browser's part before it is needed
            return
        _reply(here, sound, ensemble, neutral_share, target, sentence)


def _ask(here: AppContext) -> tuple[Any, str | None, str]:
    """What to say, how, and the sound of it."""
    sentence = st.selectbox("A sentence to say", SENTENCES)
    st.markdown(f"> {sentence}")
    labels = here.ensemble(IN_USE).labels
    target = st.selectbox("A feeling to put into it", [NO_TARGET, *labels])
    how = st.segmented_control("Your voice", [RECORD, UPLOAD], default=RECORD, required=True)
    if how == RECORD:
        sound = st.audio_input("Press, speak, press again", key="recorded")
    else:
        sound = st.file_uploader(
            f"A recording of one voice, at most {LONGEST_S:.0f} s",
            key="uploaded",
            help=f"WAV, MP3, FLAC, Ogg, Opus, M4A, AMR, GSM, mu-law and more, up to {MAX_BYTES // 10**6} MB.",
        )
    st.caption(
        "The sound stays in this computer's memory and goes when this page is closed; nothing is stored "
        "unless you press Keep."
    )
    return sound, None if target == NO_TARGET else target, sentence


def _choose(here: AppContext) -> tuple[Ensemble | None, float | None]:
    """Which ensemble or model answers."""
    with st.expander("Who answers"):
        name = st.selectbox("Ensemble", list(here.ensemble_folders()))
        try:
            ensemble = here.ensemble(name)
        except ModelError as problem:
            st.error(str(problem))
            return None, None
        member = st.selectbox("Models", [EVERYBODY, *ensemble.member_names])
        as_on_calls = st.toggle(
            "Expect mostly neutral speech, as on calls",
            help="In the night most speech is expected to be neutral. When you act a feeling, it is not.",
        )
    chosen = ensemble if member == EVERYBODY else only_member(ensemble, member)
    return chosen, here.settings.emotion.neutral_share if as_on_calls else None


def _reply(
    here: AppContext,
    sound: Any,
    ensemble: Ensemble,
    neutral_share: float | None,
    target: str | None,
    sentence: str,
) -> None:
    content = sound.getvalue()
    try:
        utterance = classify(
            content,
            sound.name,
            ensemble,
            here.detector(),
            audio=here.settings.audio,
            neutral_share=neutral_share,
        )
    except CallAnalyticsError as problem:
        st.error(str(problem))
        return
    panel(render("answer.html", a=answer(utterance, ensemble, target=target)), key="answer")
    st.audio(content)
    _tally(sound.file_id, target, utterance)
    _keep(here, utterance, target, sentence)


def _tally(file_id: str, target: str | None, utterance: Utterance) -> None:
    """How often this visitor was recognised, each recording once, by its last answer."""
    if target is None:
        return
    tries: dict[str, bool] = st.session_state.setdefault("tries", {})
    tries[file_id] = utterance.votes.emotion(0) == target
    st.caption(f"Recognised: {sum(tries.values())} of {len(tries)} in this visit.")


def _keep(here: AppContext, utterance: Utterance, target: str | None, sentence: str) -> None:
    if st.button(
        "Keep this recording", help=f"Stores it in {here.workspace.kept_utterances} with what you aimed for."
    ):
        try:
            path = keep_utterance(here.workspace, utterance, target=target, sentence=sentence)
        except OSError as problem:
            st.error(f"{here.workspace.kept_utterances}: could not be written ({problem.strerror}).")
        else:
            st.success(f"Kept as {path}")

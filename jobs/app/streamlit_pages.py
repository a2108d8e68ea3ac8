"""The pages that Streamlit shows: try an utterance, find and review calls, compare two ensembles."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import streamlit as st

from callanalytics.errors import CallAnalyticsError
from ensemble.corpora import decode_clip
from ensemble.inference.ensemble import Ensemble
from ensemble.labels import SHARED_SIX
from ensemble.model_errors import EnsembleError, ModelError
from jobs.app.answer import answer
from jobs.app.call_views import list_view, player_view, read_press
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
from jobs.app.context import IN_USE, AppContext, context
from jobs.app.markup import panel, player, render
from jobs.app.published import SORTS, OpenedCall, Wanted
from jobs.app.utterance import (
    LONGEST_S,
    MAX_BYTES,
    Utterance,
    classify,
    keep_utterance,
    only_member,
)
from jobs.reviews import give
from jobs.reviews.queue import waiting_reviews
from reports.formatting import clock, localised, moment, score_text
from reports.palette import NAMES
from reports.parts.call_parts import peak_threshold
from reports.parts.emotions import no_queue
from reports.report_source import Row
from reports.translation import _, marked

SCORE_STEP = 5  # percent
LOOKED_FOR = marked("call id, file, queue, agent or words")


def calls() -> None:
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
        if st.query_params.get("call") and st.button(_("Back to the list")):
            _leave()
            st.rerun()


def _list(here: AppContext) -> None:
    st.title(_("Calls"))
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
    view = list_view(listed, wanted, peak_threshold(here.settings))
    panel(render("list.html", **view), key="list", on_sent=_sent)


def _filters(here: AppContext) -> Wanted:
    queues, first, last = here.calls.queues_and_days()
    text, days, chosen = st.columns([3, 2, 3])
    searched = text.text_input(_("Search"), placeholder=_(LOOKED_FOR), key="text")
    span = days.date_input(_("Days"), value=[], min_value=first, max_value=last, key="days")
    picked = chosen.multiselect(
        _("Queues"), queues, format_func=lambda queue: queue or no_queue(), placeholder=_("all"), key="queues"
    )
    flags, fresh, least = st.columns([3, 3, 5])
    dates = span if isinstance(span, tuple) else (span,)
    return Wanted(
        text=searched,
        queues=tuple(picked),
        since=dates[0] if dates else None,
        until=dates[1] if len(dates) > 1 else None,
        flagged_only=flags.checkbox(_("Flagged only"), key="flagged"),
        unreviewed_only=fresh.checkbox(_("Not reviewed yet"), key="unreviewed"),
        least_score=least.slider(_("Frustration of at least (%)"), 0, 100, 0, SCORE_STEP, key="least") / 100,
    )


def _sent(message: str) -> None:
    """A click in the list; runs before the page is drawn again."""
    what, _colon, value = message.partition(":")
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
    st.button(f"← {_('All calls')}", on_click=_leave)
    st.title(opened.page.call.when)
    panel(render("lead.html", page=opened.page, call=opened.page.call), key="lead")
    _review_desk(here, opened)
    # Kept under another key too, since Streamlit forgets what is typed when the field is not on the page.
    st.session_state["reviewer"] = st.text_input(
        _("Your name, kept with your reviews"), st.session_state.get("reviewer", ""), max_chars=100
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
    with localised(here.settings.report.written_locale, here.settings.report.language):
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
            with localised(here.settings.report.written_locale, here.settings.report.language):
                text = _("This review could not be kept: {problem}").format(problem=problem)
            st.session_state["review problem"] = text


EVERYBODY, NO_TARGET = marked("the whole ensemble"), marked("no target")
RECORD, UPLOAD = marked("Record"), marked("Upload a file")
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


def try_out() -> None:
    """The page."""
    here = context()
    st.title(_("Try it with your own voice"))
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


def _shown(name: str | None) -> str:
    """A choice in the language of the page: an emotion, or one of our own words; names stay as they are."""
    return _(NAMES.get(name, name)) if name else ""


def _ask(here: AppContext) -> tuple[Any, str | None, str]:
    """What to say, how, and the sound of it."""
    sentence = st.selectbox(_("A sentence to say"), SENTENCES)
    st.markdown(f"> {sentence}")
    labels = here.ensemble(IN_USE).labels
    target = st.selectbox(_("A feeling to put into it"), [NO_TARGET, *labels], format_func=_shown)
    how = st.segmented_control(
        _("Your voice"), [RECORD, UPLOAD], default=RECORD, required=True, format_func=_shown
    )
    if how == RECORD:
        sound = st.audio_input(_("Press, speak, press again"), key="recorded")
    else:
        sound = st.file_uploader(
            _("A recording of one voice, at most {seconds} s").format(seconds=round(LONGEST_S)),
            key="uploaded",
            help=_("WAV, MP3, FLAC, Ogg, Opus, M4A, AMR, GSM, mu-law and more, up to {size} MB.").format(
                size=MAX_BYTES // 10**6
            ),
        )
    st.caption(
        _(
            "The sound stays in this computer's memory and goes when this page is closed; nothing is stored "
            "unless you press Keep."
        )
    )
    return sound, None if target == NO_TARGET else target, sentence


def _choose(here: AppContext) -> tuple[Ensemble | None, float | None]:
    """Which ensemble or model answers."""
    with st.expander(_("Who answers")):
        name = st.selectbox(_("Ensemble"), list(here.ensemble_folders()), format_func=_shown)
        try:
            ensemble = here.ensemble(name)
        except ModelError as problem:
            st.error(str(problem))
            return None, None
        member = st.selectbox(_("Models"), [EVERYBODY, *ensemble.member_names], format_func=_shown)
        as_on_calls = st.toggle(
            _("Expect mostly neutral speech, as on calls"),
            help=_("In the night most speech is expected to be neutral. When you act a feeling, it is not."),
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
    text = _("Recognised: {n} of {all} in this visit.")
    st.caption(text.format(n=sum(tries.values()), all=len(tries)))


def _keep(here: AppContext, utterance: Utterance, target: str | None, sentence: str) -> None:
    folder = here.workspace.kept_utterances
    if st.button(
        _("Keep this recording"),
        help=_("Stores it in {folder} with what you aimed for.").format(
            folder=here.workspace.kept_utterances
        ),
    ):
        try:
            path = keep_utterance(here.workspace, utterance, target=target, sentence=sentence)
        except OSError as problem:
            text = _("{folder}: could not be written ({problem}).")
            st.error(text.format(folder=folder, problem=problem.strerror))
        else:
            st.success(_("Kept as {file}").format(file=path))


A_CALL, A_SLICE = marked("A call"), marked("A slice of a corpus")


def compare() -> None:
    """The page."""
    here = context()
    st.title(_("Compare two ensembles"))
    offered = list(here.ensemble_folders())
    left, right = st.columns(2)
    names = (
        left.selectbox(_("First ensemble"), offered, key="first", format_func=_shown),
        right.selectbox(_("Second ensemble"), offered, index=1, key="second", format_func=_shown),
    )
    try:
        first, second = (here.ensemble(name) for name in names)
        if first.ensemble_id == second.ensemble_id:
            st.info(
                _(
                    "Both are the same ensemble ({id}). Choose another; trained ones that were added to the "
                    "registry are offered here, and those given to the app by --ensemble DIR."
                ).format(id=first.ensemble_id)
            )
        on = st.segmented_control(
            _("Compare on"), [A_CALL, A_SLICE], default=A_CALL, required=True, format_func=_shown
        )
        if on == A_CALL:
            _compared_call(here, names, first, second)
        else:
            _slice(here, names, first, second)
    except (CallAnalyticsError, EnsembleError) as problem:
        st.error(str(problem))


def _compared_call(here: AppContext, names: tuple[str, str], first: Ensemble, second: Ensemble) -> None:
    text = st.text_input(_("Search calls"), placeholder=_(LOOKED_FOR))
    listed = here.calls.find(Wanted(text=text, sort="when"))
    if not listed.rows:
        st.info(_("No such call."))
        return
    rows = {row["call_id"]: row for row in listed.rows}
    call_id = st.selectbox(_("Call"), list(rows), format_func=lambda key: _call_name(rows[key]))
    if not st.button(_("Compare on this call"), type="primary"):
        return
    with st.spinner(_("Classifying")):
        segments, speech = here.calls.segments(call_id)
        audio = here.calls.audio(call_id)
        compared = compare_call(audio, segments, speech, first, second, here.settings)
    view = call_view(compared, segments, audio.duration_s, names, f"/call-audio/{call_id}")
    panel(render("compare.html", **view), key="compared")


def _call_name(row: Row) -> str:
    parts = (moment(row["started_local"]), row["queue"], clock(row["duration_s"]))
    score = _("frustration {level}").format(level=score_text(row["frustration_score"]))
    return ", ".join((*filter(None, parts), score))


def _slice(here: AppContext, names: tuple[str, str], first: Ensemble, second: Ensemble) -> None:
    if not here.corpora:
        st.info(_("Start the app with --corpus FOLDER to compare on a corpus."))
        return
    folders = {folder.name: folder for folder in here.corpora}
    chosen = st.selectbox(_("Corpus"), list(folders))
    n_each = st.slider(_("Clips of each emotion"), 5, 100, 20, 5)
    if st.button(_("Compare on this slice"), type="primary"):
        with st.spinner(_("Classifying")):
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
        clip = st.selectbox(
            _("Play a clip"), different, format_func=lambda c: f"{c.path.name} ({_(NAMES[c.emotion])})"
        )
        st.audio(decode_clip(clip, 8_000), sample_rate=8_000)

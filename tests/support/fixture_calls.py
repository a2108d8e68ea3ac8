"""Plausible analysed calls without audio or models, for tests of the store, of SQL and of the reports.

    calls = plausible_calls()                    # seeded: always the same calls
    store = open_work(out); fill(store, calls)   # runs, ensembles, results, reviews, quarantine
    publish(store)

What is true by construction: `N_DAYS` days that end on `LAST_DAY`, three queues, six agents, a caller
who comes back; angry callers in the second half of some calls (more of them in the newest week in
"billing"); one pair of files, mono calls with inferred roles, abstentions, two files in quarantine, a
second ensemble that is not promoted. Numbers about a call come from the real measures and rules; the
frustration curve and the rules are the fixture's own, so that tuning them changes nothing here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np

from callanalytics.analysis.assess import CallAssessment, assess
from callanalytics.analysis.call import CallAnalysis
from callanalytics.analysis.escalation import escalations, is_flagged
from callanalytics.analysis.frustration import Curve
from callanalytics.analysis.measures import call_measures
from callanalytics.config import RuleSettings, SegmentSettings, Settings
from callanalytics.config.window import Window
from callanalytics.diarize.segments import cut_segments
from callanalytics.errors import NotAudio, TruncatedAudio
from callanalytics.features import FEATURE_NAMES
from callanalytics.records import (
    AudioFacts,
    CallFacts,
    ChannelLayout,
    Clip,
    Diarization,
    Direction,
    Failure,
    Features,
    FoundRecording,
    Recording,
    Role,
    RoleSource,
    Segment,
    Sound,
    SoundSpan,
    StatedRoles,
    TimeSource,
    Turn,
)
from callanalytics.store import Review, RunCounts, Store
from ensemble.inference.vote import Votes

ZONE = "Europe/Berlin"
LAST_DAY = date(2025, 4, 1)  # two days after the clocks went forward
N_DAYS = 16
CALLS_A_DAY = 6
ENSEMBLE_ID = "e1f0c0de00000001"
SHADOW_ID = "e1f0c0de00000002"
LABELS = ("anger", "disgust", "fear", "happy", "neutral", "sad")
MEMBERS = ("cnn", "crnn", "vit")
QUEUES = ("billing", "sales", "support")
AGENTS = ("anna", "ben", "chloe", "dmitri", "elif", "farid")
CARD = {"name": "fixture", "trained_on": ["nothing"], "licence": "none", "accuracy": None}
RULES = (
    RuleSettings(
        name="frustrated",
        measure="frustration_peak",
        at_least=0.5,
        min_evidence_s=6.0,
        reason="caller sounds frustrated, {value:.0%} at {at}",
    ),
    RuleSettings(
        name="angry_second_half",
        measure="angry_s",
        window="second_half",
        at_least=12.0,
        weight=0.5,
        reason="{value:.0f} s angry or disgusted in the second half",
    ),
    RuleSettings(
        name="talked_over",
        measure="interruptions",
        role="agent",
        at_least=2.0,
        weight=0.25,
        reason="agent talked over the caller {value:.0f} times",
    ),
)


def plausible_calls(
    n_days: int = N_DAYS, calls_a_day: int = CALLS_A_DAY, *, seed: int = 7, ensemble_id: str = ENSEMBLE_ID
) -> list[CallAnalysis]:
    """`n_days * calls_a_day` analysed calls in order of time, the same for the same arguments."""
    calls = []
    for number in range(n_days * calls_a_day):
        day, of_day = divmod(number, calls_a_day)
        calls.append(_call(number, n_days - 1 - day, of_day, seed, ensemble_id))
    return calls


def assessed(call: CallAnalysis, *, score: float | None = None, **changes: Any) -> CallAnalysis:
    """The call with another assessment (its fields, or the curve's `score`) and without clips."""
    if score is not None:
        changes["curve"] = replace(call.assessment.curve, score=score)
    return replace(call, assessment=replace(call.assessment, **changes), clips=())


def with_sides(call: CallAnalysis, **roles: Role) -> CallAnalysis:
    """The call with these roles of its speakers, measured and assessed again, without clips."""
    none = all(role is Role.UNKNOWN for role in roles.values())
    speech = replace(
        call.speech,
        roles=roles,
        role_source=RoleSource.NONE if none else call.speech.role_source,
        role_confidence=0.0 if none else 1.0,
    )
    segments = tuple(replace(s, role=roles[s.speaker]) for s in call.segments)
    found = assess(call.audio.duration_s, speech, segments, call.features, call.votes, Settings())
    return replace(call, speech=speech, segments=segments, assessment=found, clips=())


def plausible_failures() -> list[Failure]:
    """Two files of the last day that could not be analysed, one with a hostile name."""
    text = _found("broken <script>alert(1)</script>\n.wav", LAST_DAY, 9, queue="sales")
    short = _found("short.mp3", LAST_DAY, 15, queue=None, expected_duration_s=95.0)
    return [
        Failure(text, "decode", NotAudio.reason, "The content is no audio format that we know."),
        Failure(short, "decode", TruncatedAudio.reason, "12.0 s of sound, the recorder declares 95.0 s."),
    ]


def fill(store: Store, calls: Sequence[CallAnalysis] | None = None) -> int:
    """Write everything of the fixture as one finished run; returns the number of the run."""
    calls = plausible_calls() if calls is None else calls
    shadow = plausible_calls(2, 2, seed=8, ensemble_id=SHADOW_ID)
    store.register_ensemble(ENSEMBLE_ID, CARD, LABELS, MEMBERS)
    store.register_ensemble(SHADOW_ID, CARD, LABELS, MEMBERS)
    store.promote_ensemble(ENSEMBLE_ID)
    until = datetime.combine(LAST_DAY + timedelta(days=1), datetime.min.time(), tzinfo=ZoneInfo(ZONE))
    window = Window(until - timedelta(days=N_DAYS), until)
    run_id = store.begin_run(window, ENSEMBLE_ID, "0.1.0")
    store.write(calls, run_id)
    store.write(shadow, run_id)
    store.quarantine(plausible_failures(), run_id)
    flagged = [call for call in calls if call.assessment.flagged]
    for number, call in enumerate(flagged):
        verdict = ("confirm", "confirm", "confirm", "reject", "unsure")[number % 5]
        store.review(Review(call.recording.call_id, verdict, reviewer="supervisor"))
        _review_segments(store, call)
    unflagged = [call for call in calls if not call.assessment.flagged]
    for call, verdict in zip(unflagged, ("reject", "reject", "confirm", "reject"), strict=False):
        store.review(Review(call.recording.call_id, verdict, reviewer="supervisor"))
    counts = RunCounts(
        n_found=len(calls) + 2,
        n_new=len(calls) + 2,
        n_done=len(calls),
        n_quarantined=2,
        audio_s=sum(call.audio.duration_s for call in calls),
    )
    store.end_run(run_id, counts, exit_code=3)
    return run_id


def _review_segments(store: Store, call: CallAnalysis) -> None:
    """Two segments of the call: the first labelled one confirmed, the second heard as neutral."""
    labelled = [i for i, index in enumerate(call.votes.emotion_index) if index >= 0]
    key = call.recording.call_id
    store.review(Review(key, "confirm", segment=labelled[0], reviewer="supervisor"))
    heard = "sad" if call.votes.labels[call.votes.emotion_index[labelled[1]]] == "neutral" else "neutral"
    store.review(Review(key, "reject", segment=labelled[1], emotion=heard, reviewer="supervisor"))


@cache
def _call(number: int, days_ago: int, of_day: int, seed: int, ensemble_id: str) -> CallAnalysis:
    rng = np.random.default_rng([seed, number])
    queue = QUEUES[number % len(QUEUES)]
    angry_chance = 0.6 if queue == "billing" and days_ago < 7 else 0.15
    angry = bool(rng.random() < angry_chance)
    # Every ninth call, from the fourth on, has both voices on one channel; one call has two files.
    layout = ChannelLayout.MONO if number % 9 == 4 else ChannelLayout.STEREO
    if number == 2:
        layout = ChannelLayout.PAIR
    found = _found(
        f"call-{number:04d}.wav",
        LAST_DAY - timedelta(days=days_ago),
        9 + of_day % 14,
        minute=12 + 7 * (of_day // 14),
        queue=queue,
        agent_id=AGENTS[int(rng.integers(len(AGENTS)))],
        caller="back again" if number % 17 == 0 else f"caller {number}",
        pair=layout is ChannelLayout.PAIR,
    )
    spoken, duration_s = _conversation(layout, rng)
    segments = cut_segments(spoken.turns, spoken.roles, SegmentSettings())
    heated = np.array([angry and s.role is Role.CALLER and s.start_s > duration_s / 2 for s in segments])
    votes = _votes(segments, heated, rng)
    features = _features(segments, heated, rng)
    mine = np.array([i for i, s in enumerate(segments) if s.role is Role.CALLER], dtype=np.intp)
    curve = _curve([segments[i] for i in mine], heated[mine], rng)
    measures = call_measures(duration_s, spoken, segments, votes, curve)
    raised = escalations(RULES, measures, spoken, segments, curve, duration_s)
    flagged = is_flagged(raised, 1.0)
    moments = [moment for e in raised for moment in e.evidence][:1] if flagged else []
    return CallAnalysis(
        recording=found.recording,
        facts=found.facts,
        audio=AudioFacts(
            native_rate_hz=8000,
            n_channels=1 if layout is ChannelLayout.MONO else 2,
            codec="pcm_s16le",
            container="wav",
            duration_s=duration_s,
            clipped_share=0.0,
        ),
        speech=spoken,
        segments=segments,
        features=features,
        votes=votes,
        ensemble_id=ensemble_id,
        assessment=CallAssessment(curve, measures, raised, flagged),
        clips=tuple(Clip(m.clip_name, m.start_s, m.end_s, b"not really an mp3") for m in moments),
        stage_wall_s={"decode": 0.1, "vote": 0.4},
    )


def _found(
    name: str,
    day: date,
    hour: int,
    *,
    queue: str | None,
    minute: int = 12,
    agent_id: str | None = None,
    caller: str | None = None,
    expected_duration_s: float | None = None,
    pair: bool = False,
) -> FoundRecording:
    identity = hashlib.sha256(f"{name} {day}".encode()).hexdigest()
    folder = Path("/calls") / day.isoformat()
    paths = (folder / f"agent-{name}", folder / f"caller-{name}") if pair else (folder / name,)
    local = datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(ZONE))
    return FoundRecording(
        recording=Recording(identity, paths, 640_044, local.astimezone(UTC) + timedelta(minutes=5)),
        facts=CallFacts(
            recorder="freepbx",
            recorder_confidence=0.9,
            started_at=local.astimezone(UTC),
            started_at_source=TimeSource.NAME,
            zone=ZONE,
            external_id=f"{identity[:8]}.1",
            direction=Direction.INBOUND,
            agent_id=agent_id,
            agent_name=agent_id.capitalize() if agent_id else None,
            team="north" if agent_id in AGENTS[:3] else "south",
            queue=queue,
            caller_hash=hashlib.sha256(f"salt {caller}".encode()).hexdigest() if caller else None,
            stated_roles=(
                StatedRoles(RoleSource.RECORDER, (Role.CALLER, Role.AGENT), 0.99, "your settings"),
            ),
            expected_duration_s=expected_duration_s,
            sources={"queue": "name", "started_at": "name"},
        ),
    )


def _conversation(layout: ChannelLayout, rng: np.random.Generator) -> tuple[Diarization, float]:
    """Caller and agent in turns of 3 to 8 s, with some overtalk, one hold and one payment pause."""
    turns: list[Turn] = []
    mono = layout is ChannelLayout.MONO
    at_s = float(rng.uniform(1, 3))
    for index in range(int(rng.integers(14, 22))):
        side = index % 2
        length_s = float(rng.uniform(3, 8))
        turns.append(Turn(f"speaker_{side}", 0 if mono else side, round(at_s, 3), round(at_s + length_s, 3)))
        pause_s = float(rng.uniform(-0.4, 0.9))
        at_s += length_s + (pause_s if pause_s > 0 else 2.5 * pause_s)
    hold_s = round(at_s + 1.0, 3)
    sounds = (
        SoundSpan(Sound.MUSIC, 0, hold_s, hold_s + 6.0),
        SoundSpan(Sound.MASKED, 0, hold_s + 6.5, hold_s + 9.0),
    )
    spoken = Diarization(
        turns=tuple(sorted(turns, key=lambda turn: turn.start_s)),
        roles={"speaker_0": Role.CALLER, "speaker_1": Role.AGENT},
        layout=layout,
        role_source=RoleSource.INFERRED if mono else RoleSource.RECORDER,
        role_confidence=0.7 if mono else 1.0,
        sounds=sounds,
        quality=("masked", "music"),
    )
    return spoken, round(hold_s + 12.0, 3)


def _votes(segments: Sequence[Segment], heated: np.ndarray, rng: np.random.Generator) -> Votes:
    """Three members around one truth: anger where heated, else neutral more often than not."""
    n, k, m = len(segments), len(LABELS), len(MEMBERS)
    usual = np.array([0.06, 0.05, 0.05, 0.14, 0.6, 0.1])
    truth = np.where(heated, LABELS.index("anger"), rng.choice(k, size=n, p=usual))
    logits = rng.normal(0.0, 0.8, size=(m, n, k))
    logits[:, np.arange(n), truth] += rng.uniform(1.5, 4.0, size=n)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    mean = probabilities.mean(axis=0)
    ballots = probabilities.argmax(axis=2)
    counts = np.stack([(ballots == label).sum(axis=0) for label in range(k)], axis=1)
    most = counts.max(axis=1)
    tied = (counts == most[:, None]).sum(axis=1) > 1
    winner = np.where(counts == most[:, None], mean, -1.0).argmax(axis=1)
    confidence = mean[np.arange(n), winner]
    reasons: list[str | None] = []
    for segment, sure in zip(segments, confidence, strict=True):
        if segment.duration_s < 1.0:
            reasons.append("too_short")
        else:
            reasons.append(None if sure >= 0.5 else "low_confidence")
    silenced = np.array([reason is not None for reason in reasons], dtype=bool)
    return Votes(
        labels=LABELS,
        member_names=MEMBERS,
        probabilities=probabilities.astype(np.float32),
        mean_probabilities=mean.astype(np.float32),
        emotion_index=np.where(silenced, -1, winner),
        top_index=mean.argmax(axis=1),
        confidence=confidence.astype(np.float32),
        agreement=(most / m).astype(np.float32),
        tie_broken=tied,
        abstain_reason=tuple(reasons),
    )


def _curve(mine: Sequence[Segment], heated: np.ndarray, rng: np.random.Generator) -> Curve:
    """Low and wavering while calm, rising towards 0.9 while heated."""
    level = np.zeros(len(mine))
    calm = rng.uniform(0.03, 0.25)
    now = calm
    for i, hot in enumerate(heated):
        now += 0.4 * ((0.9 if hot else calm) - now)
        level[i] = np.clip(now + rng.normal(0, 0.01), 0.0, 1.0)
    rise_db = 9.0 * heated + rng.normal(0, 1.0, len(mine))
    rise_st = 5.0 * heated + rng.normal(0, 0.5, len(mine))
    return Curve(
        at_s=np.array([(s.start_s + s.end_s) / 2 for s in mine], dtype=np.float32),
        level=level.astype(np.float32),
        score=float(level.astype(np.float32).max()),
        loudness_rise_db=rise_db.astype(np.float32),
        pitch_rise_st=rise_st.astype(np.float32),
    )


def _features(segments: Sequence[Segment], heated: np.ndarray, rng: np.random.Generator) -> Features:
    """Random descriptors; where heated 9 dB louder and five semitones higher; some pitch unknown."""
    n = len(segments)
    values = rng.normal(0.0, 1.0, size=(n, len(FEATURE_NAMES))).astype(np.float32)
    values[:, FEATURE_NAMES.index("loudness_db")] = rng.normal(-26, 1.5, n) + 9 * heated
    pitch = rng.normal(170, 8, n) * np.where(heated, 2 ** (5 / 12), 1.0)
    pitch[rng.random(n) < 0.05] = np.nan
    values[:, FEATURE_NAMES.index("f0_median_hz")] = pitch
    return Features(FEATURE_NAMES, values)

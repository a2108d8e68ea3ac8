"""Numbers about a whole call: talk, silence, overtalk, interruptions, emotion shares. Pure, no I/O.

Definitions (they follow what contact-centre products report, so that figures can be compared):

- `talk_s`, `talk_share`: union of a side's turns; share of the call.
- `silence_s`: nobody speaks and the channel is not masked, music or a tone; `n_long_silences` counts
  silences over 3 s (Amazon's "non-talk" threshold), `longest_silence_s` the longest.
- `overtalk_s`: both sides speak.
- `interruptions`: a side talks over the other and has the floor afterwards; see `analysis.interruptions`.
  The role is who interrupts.
- A side is known when a speaker has its role. Measures of a side that is not known, or between two sides
  that are not both known (overtalk, interruptions), are left out. Rows of role `unknown` are about all
  voices whose role is unknown.
- `<emotion>_share`: part of a side's *labelled* seconds; `angry_s`: labelled anger or disgust seconds.
- `labelled_share`: part of a side's segment seconds that got a label.
- `frustration`: mean level in the period; `frustration_peak` and `frustration_peak_s` (when).
- `loudness_rise_db`, `pitch_rise_st`: mean over the period against the voice's calm reference.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from callanalytics.analysis.frustration import Curve
from callanalytics.analysis.interruptions import interruptions
from callanalytics.diarize.segments import covered_s, merge_intervals
from callanalytics.records import Diarization, Measure, Role, Segment
from ensemble.inference.vote import Votes
from ensemble.labels import EMOTIONS

QUARTERS = ("q1", "q2", "q3", "q4")
PERIODS = ("call", *QUARTERS, "first_half", "second_half")
SIDES = (Role.AGENT, Role.CALLER)
ANGRY = ("anger", "disgust")

LONG_SILENCE_S = 3.0

MEASURE_TEXT = {
    "silence_s": "Nobody speaks, and the channel is not masked, music or a tone",
    "silence_share": "Nobody speaks, part of the call",
    "longest_silence_s": "The longest silence",
    "n_long_silences": "Silences over 3 s",
    "overtalk_s": "Both sides speak",
    "overtalk_share": "Both sides speak, part of the call",
    "masked_s": "Exact zeros: a payment pause",
    "tone_s": "Tones: ring-back, DTMF, fax, beeps",
    "music_s": "Hold music and jingles",
    "talk_s": "The side speaks",
    "talk_share": "The side speaks, part of the period",
    "n_turns": "Turns of the side",
    "interruptions": "The side talks over the other and has the floor afterwards, times",
    "interruptions_s": "The side talks over the other, seconds",
    "labelled_s": "Speech of the side with an emotion",
    "labelled_share": "Speech of the side with an emotion, part of its segments",
    **{f"{emotion}_share": f"Part of the labelled speech that is {emotion}" for emotion in EMOTIONS},
    "angry_s": "Labelled anger or disgust",
    "frustration": "Mean of the frustration curve, 0..1",
    "frustration_peak": "Highest point of the frustration curve, 0..1",
    "frustration_peak_s": "When the frustration curve is highest, seconds into the call",
    "loudness_rise_db": "Louder than the voice's own calm speech",
    "pitch_rise_st": "Higher than the voice's own calm speech, semitones",
}
"""What each measure says, in the words of the view `measure_names`."""

Intervals = npt.NDArray[np.float64]


def period_bounds(duration_s: float) -> dict[str, tuple[float, float]]:
    """Start and end of every period of a call, in seconds."""
    quarter = duration_s / 4
    bounds = {name: (i * quarter, (i + 1) * quarter) for i, name in enumerate(QUARTERS)}
    return {
        "call": (0.0, duration_s),
        **bounds,
        "first_half": (0.0, 2 * quarter),
        "second_half": (2 * quarter, duration_s),
    }


def call_measures(
    duration_s: float, diarization: Diarization, segments: Sequence[Segment], votes: Votes, curve: Curve
) -> tuple[Measure, ...]:
    """All measures of one call. A value that cannot be known (no labelled speech) is left out."""
    bounds = period_bounds(duration_s)
    known = set(diarization.roles.values())
    talk = {role: _talk(diarization, role) for role in (*SIDES, Role.UNKNOWN) if role in known}
    return (
        *_conversation(duration_s, diarization, talk),
        *_talk_by_period(bounds, talk, diarization),
        *_emotions(bounds, segments, votes),
        *frustration_measures(duration_s, curve),
    )


def _talk(diarization: Diarization, role: Role) -> Intervals:
    return merge_intervals(
        [(t.start_s, t.end_s) for t in diarization.turns if diarization.roles[t.speaker] is role]
    )


def _conversation(duration_s: float, diarization: Diarization, talk: dict[Role, Intervals]) -> list[Measure]:
    """Silence, overtalk and counts of the whole call."""
    speech = [(t.start_s, t.end_s) for t in diarization.turns]
    occupied = merge_intervals(speech + [(s.start_s, s.end_s) for s in diarization.sounds])
    silences = _gaps(occupied, duration_s)
    rows = [
        Measure("silence_s", None, "call", float(silences.sum())),
        Measure("silence_share", None, "call", float(silences.sum() / duration_s) if duration_s else None),
        Measure("longest_silence_s", None, "call", float(silences.max(initial=0.0))),
        Measure("n_long_silences", None, "call", float((silences > LONG_SILENCE_S).sum())),
    ]
    if talk.keys() >= set(SIDES):
        overtalk = _both(talk[Role.AGENT], talk[Role.CALLER])
        rows.append(Measure("overtalk_s", None, "call", overtalk))
        rows.append(Measure("overtalk_share", None, "call", overtalk / duration_s if duration_s else None))
    for kind in {s.kind for s in diarization.sounds}:
        spans = merge_intervals([(s.start_s, s.end_s) for s in diarization.sounds if s.kind is kind])
        rows.append(Measure(f"{kind}_s", None, "call", float((spans[:, 1] - spans[:, 0]).sum())))
    return rows


def _talk_by_period(
    bounds: dict[str, tuple[float, float]], talk: dict[Role, Intervals], diarization: Diarization
) -> list[Measure]:
    starts = np.array([bounds[p][0] for p in PERIODS])
    ends = np.array([bounds[p][1] for p in PERIODS])
    lengths = np.maximum(ends - starts, 1e-9)
    rows = []
    for role, intervals in talk.items():
        seconds = covered_s(intervals, starts, ends)
        for i, period in enumerate(PERIODS):
            rows.append(Measure("talk_s", role, period, float(seconds[i])))
            rows.append(Measure("talk_share", role, period, float(seconds[i] / lengths[i])))
        turns = [t for t in diarization.turns if diarization.roles[t.speaker] is role]
        rows.append(Measure("n_turns", role, "call", float(len(turns))))
        if role is Role.UNKNOWN or role.other not in talk:
            continue
        talked_over = interruptions(diarization, role)
        begun = np.array([start_s for start_s, _ in talked_over])
        for i, period in enumerate(PERIODS):
            n_interruptions = float(((begun >= starts[i]) & (begun < ends[i])).sum()) if len(begun) else 0.0
            rows.append(Measure("interruptions", role, period, n_interruptions))
        rows.append(Measure("interruptions_s", role, "call", float(sum(over_s for _, over_s in talked_over))))
    return rows


def _emotions(
    bounds: dict[str, tuple[float, float]], segments: Sequence[Segment], votes: Votes
) -> list[Measure]:
    """Emotion shares per side and period, weighted by seconds."""
    start = np.array([s.start_s for s in segments])
    end = np.array([s.end_s for s in segments])
    roles = np.array([s.role.value for s in segments])
    rows = []
    for role in (*SIDES, Role.UNKNOWN):
        own = roles == role.value
        for period, (begin, finish) in bounds.items():
            seconds = np.clip(np.minimum(end, finish) - np.maximum(start, begin), 0.0, None) * own
            total = float(seconds.sum())
            labelled = seconds * (votes.emotion_index >= 0) if len(segments) else seconds
            n_labelled_s = float(labelled.sum())
            if total <= 0:
                continue
            rows.append(Measure("labelled_s", role, period, n_labelled_s))
            rows.append(Measure("labelled_share", role, period, n_labelled_s / total))
            if n_labelled_s <= 0:
                continue
            angry_s = 0.0
            for index, emotion in enumerate(votes.labels):
                emotion_s = float(labelled[votes.emotion_index == index].sum())
                angry_s += emotion_s if emotion in ANGRY else 0.0
                rows.append(Measure(f"{emotion}_share", role, period, emotion_s / n_labelled_s))
            rows.append(Measure("angry_s", role, period, angry_s))
    return rows


def frustration_measures(duration_s: float, curve: Curve) -> list[Measure]:
    """Level and rises of the curve's voice per period."""
    rows = []
    for period, (begin, finish) in period_bounds(duration_s).items():
        inside = (curve.at_s >= begin) & (curve.at_s < finish)
        if not inside.any():
            continue
        if curve.score is not None:
            rows.append(Measure("frustration", curve.role, period, float(curve.level[inside].mean())))
            rows.append(Measure("frustration_peak", curve.role, period, float(curve.level[inside].max())))
        for name, rise in (
            ("loudness_rise_db", curve.loudness_rise_db),
            ("pitch_rise_st", curve.pitch_rise_st),
        ):
            known = rise[inside][np.isfinite(rise[inside])]
            if len(known):
                rows.append(Measure(name, curve.role, period, float(known.mean())))
    if curve.peak_s is not None:
        rows.append(Measure("frustration_peak_s", curve.role, "call", curve.peak_s))
    return rows


def _gaps(occupied: Intervals, duration_s: float) -> npt.NDArray[np.float64]:
    """Lengths of the stretches that no interval covers, (n,)."""
    starts = np.concatenate((occupied[:, 0], [duration_s]))
    ends = np.concatenate(([0.0], occupied[:, 1]))
    gaps = np.clip(starts - ends, 0.0, None)
    result: npt.NDArray[np.float64] = gaps[gaps > 0]
    return result


def _both(a: Intervals, b: Intervals) -> float:
    """Seconds that two sets of disjoint intervals share."""
    return float(covered_s(b, a[:, 0], a[:, 1]).sum()) if len(a) and len(b) else 0.0

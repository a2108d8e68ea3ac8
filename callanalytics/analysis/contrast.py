"""Which calls come into the review queue, and what of each is played: calm speech, then what is unlike it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.escalation import APART_S, frustrated_moments
from callanalytics.analysis.frustration import Curve, is_of_voice
from callanalytics.audio.clips import CALM_S, MOMENT_S, Contrast, most_telling
from callanalytics.config import RuleSettings, Settings
from callanalytics.records import Evidence, Segment

CONTROL_EVERY = 10  # one unflagged call in so many is a control, so that misses are measured
# A near miss reaches this part of its rule's threshold; the queue shows the top five of them.
NEAR_SHARE = 0.5
N_NEAR = 5
N_MOMENTS = 3
SHORTEST_CALM_S = 1.0  # a shorter piece is no impression of a voice
JOINED_S = 0.5  # pieces of calm speech that lie closer are played as one


def is_control(call_id: str) -> bool:
    """Whether an unflagged call is a control: chosen by the hash of its id, the same in every run.

    `jobs/reviews/piles.py` asks the same in SQL.
    """
    return int(hashlib.sha256(call_id.encode()).hexdigest()[:8], 16) % CONTROL_EVERY == 0


def frustration_rule(settings: Settings) -> RuleSettings | None:
    """The rule on the caller's frustration peak over the call, None where the settings have none."""
    return next(
        (
            rule
            for rule in settings.rule
            if rule.measure == "frustration_peak" and rule.role == "caller" and rule.window == "call"
        ),
        None,
    )


def is_queued(call_id: str, found: CallAssessment, settings: Settings) -> bool:
    """Whether a call may come into the review queue: flagged, a control, or near the rule.

    Of the calls near the rule only the top of a night stay; which these are is known at the end of a run.
    """
    rule, score = frustration_rule(settings), found.curve.score
    near = rule is not None and score is not None and score >= NEAR_SHARE * rule.at_least
    return found.flagged or near or is_control(call_id)


def contrast_of(segments: Sequence[Segment], found: CallAssessment, duration_s: float) -> Contrast:
    """What to play of a call: about 4 s of calm speech, then up to three moments, by time.

    The moments are the evidence of the rules, else where the curve is highest, else the longest stretches of
    speech. There is no calm speech where the voice has none beside its moments.
    """
    evidence = (
        most_telling(found.escalations, N_MOMENTS)
        or frustrated_moments(segments, found.curve)
        or _longest(segments, found.curve)
    )
    moments = list[Evidence]()
    for moment in evidence:
        window = _around(moment, duration_s)
        if not moments or window.start_s >= moments[-1].end_s:
            moments.append(window)
    return Contrast(_calm(segments, found.curve, moments), tuple(moments))


def _longest(segments: Sequence[Segment], curve: Curve) -> list[Evidence]:
    """The longest segments of the voice, of anybody where it has none, at least `APART_S` apart, by time."""
    mine = [s for s in segments if is_of_voice(s, curve.voice)] or segments
    chosen = list[Segment]()
    for segment in sorted(mine, key=lambda s: (-s.duration_s, s.start_s)):
        if len(chosen) < N_MOMENTS and all(abs(segment.start_s - s.start_s) >= APART_S for s in chosen):
            chosen.append(segment)
    return [Evidence(s.start_s, s.end_s, "speaks") for s in sorted(chosen, key=lambda s: s.start_s)]


def _around(moment: Evidence, duration_s: float) -> Evidence:
    """A moment with some seconds around it, `MOMENT_S` in all: of a longer one its beginning."""
    margin_s = max(1.0, (MOMENT_S - (moment.end_s - moment.start_s)) / 2)
    start_s = max(0.0, moment.start_s - margin_s)
    return Evidence(start_s, min(duration_s, start_s + MOMENT_S), moment.text)


def _calm(
    segments: Sequence[Segment], curve: Curve, moments: Sequence[Evidence]
) -> tuple[tuple[float, float], ...]:
    """The calmest stretches of the voice, `CALM_S` in all, outside the moments."""
    mine = [s for s in segments if is_of_voice(s, curve.voice)]
    left_s, chosen = CALM_S, list[tuple[float, float]]()
    for segment in (mine[place] for place in curve.calm):
        apart = all(segment.end_s <= m.start_s or segment.start_s >= m.end_s for m in moments)
        if not apart or segment.duration_s < SHORTEST_CALM_S:
            continue
        if left_s < SHORTEST_CALM_S:
            break
        chosen.append((segment.start_s, min(segment.end_s, segment.start_s + left_s)))
        left_s -= chosen[-1][1] - chosen[-1][0]
    joined = list[tuple[float, float]]()
    for start_s, end_s in sorted(chosen):
        if joined and start_s - joined[-1][1] < JOINED_S:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end_s))
        else:
            joined.append((start_s, end_s))
    return tuple(joined)

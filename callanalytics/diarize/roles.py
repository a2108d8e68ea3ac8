"""Which side is the agent: what is stated, how the voices sound and how the talk runs, weighed together.

Every fact gives log-odds that one of the two sides is the agent, and their sum decides (independent evidence
adds up so: I. J. Good, "Probability and the Weighing of Evidence", 1950). None is so certain that the others
together could not outvote it. What disagrees is a conflict, which is kept and shown.

How the talk runs is what service calls share, whatever the language: whoever answers for a company greets in
a whole sentence or more before the caller states a wish, and an early "hello?" of the other side is short.
Its weights are fitted by `benchmarks/roles.py` on built calls of CREMA-D and EMO-DB voices.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

from callanalytics.diarize.conversation import Opening
from callanalytics.diarize.quality import Quality
from callanalytics.records import (
    Diarization,
    FloatArray,
    Role,
    RoleEvidence,
    RoleSource,
    StatedRoles,
    Turn,
    VoiceProfile,
)

# Of the clues of the talk: in proportion as `benchmarks/roles.py --fit` prints them (3.56, 1.19, 1.21, 0.91),
# scaled by 1.6 (J. Platt, "Probabilistic outputs for support vector machines", 1999). Scale and lapses were
# fitted together on 255 built mono calls of speakers whom the voice space did not know, half of them coded. A
# fit on either half of the speakers gives 1.4 and 1.8, and an expected calibration error of 0.035 on the
# other half (benchmarks/RESULTS.md).
_WEIGHTS = (5.70, 1.90, 1.94, 1.46)
# Half of the openings of this length are a "hello?": the longest of those and the shortest sentences.
_HELLO_S, _HELLO_RANGE_S = 0.8, 0.4
_GREETING_RANGE_S = 3.0
_MOST_LOG_RATIO = 1.5
# Pieces of one greeting are split by pauses up to this long while nobody else talks.
_BREATH_S = 2.0
# Share of calls in which a clue says nothing, whatever it looks like: the recording begins late, somebody
# else is recorded. No clue is surer than this leaves.
LAPSE_OF_TALK = 0.03
_LAPSE_OF_VOICE = 0.02
# Voice profiles: what a cosine between prints says (chosen on the sets of benchmarks/RESULTS.md marked so).
_SAME_VOICE_COSINE = 0.35  # nearer than this, or the agent is somebody whose profile this is not
_LOG_ODDS_PER_COSINE = 10.0
_CLEARLY_NEARER = 0.1
# Facts of more than four to one that disagree are a conflict.
_TELLING_LOG_ODDS = math.log(4)
_MOST_CERTAIN = 0.99
# Less sure than this who is the agent, the one taken for the agent may be the caller and is assessed too. Of
# 158 of those calls whose voices are told apart well, 22 are under it, among them five of the eight with the
# roles exchanged; all that were under 0.8 before the confidence was calibrated still are.
SURE_OF_THE_AGENT = 0.9
# A third voice belongs to a side when it takes over from a voice of it: little of their talk is out of order
# (divisions are not perfect), and the other side talks with both.
_OUT_OF_ORDER_SHARE = 0.3
_SHORTEST_PART_S = 4.0
# A third voice that says so much and belongs to no side may be the agent or the caller as well as the others:
# then it is not sure who is the agent (`SURE_OF_THE_AGENT`): in 2 of 5 calls the one taken for the agent was.
_UNPLACED_SHARE = 0.1
_LAPSE_OF_UNPLACED = 0.8
# Where the voices may be badly divided, 90 of 97 roles are right, and most of the others are unsure anyhow.
# Whoever is taken for the agent may be both people: both are assessed, however sure this is.
_LAPSE_IN_DOUBT = 0.05

_OF_CHANNELS = ("on the left channel", "on the right channel")
_OF_VOICES = ("the voice that speaks first", "the voice that speaks second")


@dataclass(frozen=True, slots=True)
class RoleGuess:
    """Role of every speaker, the fact that counts most for it, how sure it is (0..1), and all facts."""

    roles: dict[str, Role]
    source: RoleSource
    confidence: float
    evidence: tuple[RoleEvidence, ...] = ()

    @property
    def is_disputed(self) -> bool:
        """Whether facts disagree that are telling each by itself."""
        telling = [fact.log_odds > 0 for fact in self.evidence if abs(fact.log_odds) >= _TELLING_LOG_ODDS]
        return len(set(telling)) > 1


def weigh_roles(
    turns: Sequence[Turn],
    *,
    by_channel: bool,
    stated: Sequence[StatedRoles] = (),
    prints: Mapping[str, FloatArray] | None = None,
    profile: VoiceProfile | None = None,
    in_doubt: bool = False,
    opening: Opening | None = None,
) -> RoleGuess:
    """Agent and caller by everything that is known; voices that belong to no side are unknown.

    One voice alone of which nothing is stated gets no role: a voicemail and a monologue of either side look
    the same.

    Args:
        turns: of the whole call, sorted by start.
        by_channel: the channel is the side (then what is stated of channels counts); else the voices tell.
        stated: roles by channel as sources state them.
        prints: unit-length voice print (192,) by speaker, where there is one.
        profile: how the agent sounds.
        in_doubt: whether a voice may hold much of another's speech; then the roles are less sure.
        opening: how sure it is who speaks first; the talk is weighed both ways.
    """
    near = {s: float(voice @ profile.voice) for s, voice in (prints or {}).items()} if profile else {}
    sides = _channel_sides(turns) if by_channel else _with_known_voice(voice_sides(turns), turns, near)
    roles = dict.fromkeys((turn.speaker for turn in turns), Role.UNKNOWN)
    both = len(set(sides.values())) == 2
    evidence = _stated_evidence(stated) if by_channel else []
    if both:
        evidence += _voice_evidence(turns, sides, near)
        log_odds = _by_talk(turns, sides)
        if opening is not None:
            opened_by_other = _by_talk(_reopened(turns, opening), sides)
            log_odds = _mixed(log_odds, opened_by_other, opening.doubt)
        lapse = _LAPSE_OF_UNPLACED if _somebody_is_unplaced(turns, sides) else LAPSE_OF_TALK
        by_talk = _lapsed(log_odds, lapse)
        evidence.append(RoleEvidence(RoleSource.INFERRED, by_talk, "the way the talk runs"))
    evidence = [fact for fact in evidence if fact.log_odds]
    if not evidence:
        return RoleGuess(roles, RoleSource.NONE, 0.0)
    total = sum(fact.log_odds for fact in evidence)
    agent = 0 if total >= 0 else 1
    for speaker, side in sides.items():
        roles[speaker] = Role.AGENT if side == agent else Role.CALLER
    names = _OF_CHANNELS if by_channel else _OF_VOICES
    way = 1 if agent == 0 else -1
    evidence = [
        RoleEvidence(
            fact.source,
            way * fact.log_odds,
            f"{fact.words}: the agent is {names[0 if fact.log_odds > 0 else 1]}",
        )
        for fact in evidence
    ]
    best = max(evidence, key=lambda fact: fact.log_odds)
    sure = _lapsed(abs(total), _LAPSE_IN_DOUBT) if in_doubt else abs(total)
    return RoleGuess(roles, best.source, min(_probability(sure), _MOST_CERTAIN), tuple(evidence))


def _by_talk(turns: Sequence[Turn], sides: Mapping[str, int]) -> float:
    """Log-odds by the clues of the talk that side 0 is the agent; 0 where only one side talks."""
    spoken = [replace(turn, speaker=str(sides[turn.speaker])) for turn in turns if turn.speaker in sides]
    if len({turn.speaker for turn in spoken}) < 2:
        return 0.0
    opener_is_agent = sum(w * clue for w, clue in zip(_WEIGHTS, talk_clues(spoken), strict=True))
    return opener_is_agent if spoken[0].speaker == "0" else -opener_is_agent


def _reopened(turns: Sequence[Turn], opening: Opening) -> list[Turn]:
    """The same talk if the first stretch of speech is another voice's."""
    other, end_s = f"speaker_{opening.other}", opening.end_s
    if end_s <= turns[0].start_s:  # it was too faint or short for a turn
        return list(turns)
    spoken = [
        replace(turns[0], speaker=other, end_s=min(turns[0].end_s, end_s)),
        *([replace(turns[0], start_s=end_s)] if turns[0].end_s > end_s else []),
        *turns[1:],
    ]
    return sorted(spoken, key=lambda turn: turn.start_s)


def _channel_sides(turns: Sequence[Turn]) -> dict[str, int]:
    return {turn.speaker: turn.channel for turn in turns}


def voice_sides(turns: Sequence[Turn]) -> dict[str, int]:
    """Side, 0 or 1, of the voices of one channel; voices that belong to neither are left out.

    The two who talk most are the sides, 0 the one that speaks first. Of three voices one may take over from
    another (a call that is passed on): these two are one side, and the third, who talks with both, is the
    other.
    """
    talk_s = _talk_s(turns)
    order = sorted(talk_s, key=lambda speaker: -talk_s[speaker])
    sides = {speaker: number for number, speaker in enumerate(order[:2])}
    if len(order) > 2:
        out_of_order_s, (before, after, other) = min(
            (_out_of_order_s(turns, *three), three) for three in permutations(order[:3])
        )
        if out_of_order_s < math.inf:
            sides = {before: 0, after: 0, other: 1}
    first = next((turn.speaker for turn in turns if turn.speaker in sides), None)
    return {speaker: side ^ sides[first] for speaker, side in sides.items()} if first else {}


def _out_of_order_s(turns: Sequence[Turn], before: str, after: str, other: str) -> float:
    """Seconds out of order if one voice takes over from another; infinite where that is not what happens."""
    done = {before: 0.0, after: 0.0, other: 0.0}
    left = {speaker: talk_s for speaker, talk_s in _talk_s(turns).items() if speaker in done}
    best_s = math.inf
    for turn in turns:
        if turn.speaker == after:  # may be where it takes over
            wrong_s = done[after] + left[before]
            allowed_s = _OUT_OF_ORDER_SHARE * min(done[before] + left[before], done[after] + left[after])
            parts_s = (done[before], done[other], left[after], left[other])
            if wrong_s <= allowed_s and min(parts_s) >= _SHORTEST_PART_S:
                best_s = min(best_s, wrong_s)
        if turn.speaker in done:
            done[turn.speaker] += turn.duration_s
            left[turn.speaker] -= turn.duration_s
    return best_s


def _somebody_is_unplaced(turns: Sequence[Turn], sides: Mapping[str, int]) -> bool:
    """Whether a voice of neither side says much."""
    talk_s = _talk_s(turns)
    most_s = max(_UNPLACED_SHARE * sum(talk_s.values()), _SHORTEST_PART_S)
    return any(seconds >= most_s for speaker, seconds in talk_s.items() if speaker not in sides)


def _talk_s(turns: Sequence[Turn]) -> dict[str, float]:
    talk_s: dict[str, float] = {}
    for turn in turns:
        talk_s[turn.speaker] = talk_s.get(turn.speaker, 0.0) + turn.duration_s
    return talk_s


def possible_callers(spoken: Diarization) -> tuple[str, ...]:
    """Speakers who may be the caller although they are not called so, in order of appearance.

    Those of unknown role are, and so is an agent where it is not sure who is the agent, or whether that voice
    holds speech of the caller, too. Where one of three voices may be a machine that opened the call, or where
    the recorder exchanged the sides, the way the talk runs tells little.
    """
    doubted = {Role.UNKNOWN}
    by_talk = spoken.role_source is RoleSource.INFERRED
    if (
        spoken.role_confidence < SURE_OF_THE_AGENT
        or Quality.MIXED_VOICES in spoken.quality
        or (by_talk and Quality.THREE_VOICES in spoken.quality)
    ):
        doubted.add(Role.AGENT)
    return tuple(speaker for speaker in spoken.speakers if spoken.roles[speaker] in doubted)


def _stated_evidence(stated: Sequence[StatedRoles]) -> list[RoleEvidence]:
    return [RoleEvidence(fact.source, fact.log_odds, fact.words) for fact in stated]


def _with_known_voice(
    sides: dict[str, int], turns: Sequence[Turn], near: Mapping[str, float]
) -> dict[str, int]:
    """The sides, unless it is a voice of neither that clearly is the agent's: then it and who talks most."""
    nearest = max(near, key=lambda speaker: near[speaker], default=None)
    if nearest is None or nearest in sides or near[nearest] < _SAME_VOICE_COSINE:
        return sides
    if near[nearest] - max(near.get(speaker, 0.0) for speaker in sides) < _CLEARLY_NEARER:
        return sides
    talk_s = _talk_s(turns)
    other = max((speaker for speaker in talk_s if speaker != nearest), key=lambda speaker: talk_s[speaker])
    first = next(turn.speaker for turn in turns if turn.speaker in (nearest, other))
    return {first: 0, other if first == nearest else nearest: 1}


def _voice_evidence(
    turns: Sequence[Turn], sides: Mapping[str, int], near: Mapping[str, float]
) -> list[RoleEvidence]:
    """By how much nearer one side is to the agent's profile; `near` holds the cosine of each speaker.

    Somebody else may have answered on this agent's account: then no voice is near, and the profile says
    nothing.
    """
    talk_s = _talk_s(turns)
    of_side: dict[int, tuple[float, float]] = {}  # the voice of each side that talks most
    for speaker, side in sides.items():
        if speaker in near:
            of_side[side] = max(of_side.get(side, (0.0, 0.0)), (talk_s[speaker], near[speaker]))
    if len(of_side) < 2 or max(cosine for _, cosine in of_side.values()) < _SAME_VOICE_COSINE:
        return []
    log_odds = _LOG_ODDS_PER_COSINE * (of_side[0][1] - of_side[1][1])
    words = "the profile of the agent's voice"
    return [RoleEvidence(RoleSource.VOICE_PROFILE, _lapsed(log_odds, _LAPSE_OF_VOICE), words)]


def talk_clues(turns: Sequence[Turn]) -> tuple[float, float, float, float]:
    """Clues that the one of two speakers who speaks first is the agent, positive where they are for it.

    The opening is a sentence and no "hello?"; it is longer than the answer, as a ratio and in seconds; and
    whoever opens talks more.
    """
    blocks = _blocks(turns)
    first, opening_s = blocks[0]
    answer_s = next(talk_s for speaker, talk_s in blocks if speaker != first)
    talk_s = _talk_s(turns)
    ratio = math.log(opening_s / answer_s)
    return (
        math.tanh((opening_s - _HELLO_S) / _HELLO_RANGE_S),
        max(-_MOST_LOG_RATIO, min(_MOST_LOG_RATIO, ratio)),
        math.tanh((opening_s - answer_s) / _GREETING_RANGE_S),
        talk_s[first] / sum(talk_s.values()) - 0.5,
    )


def _lapsed(log_odds: float, lapse: float) -> float:
    """The same evidence when with the probability `lapse` it says nothing."""
    return _mixed(log_odds, 0.0, lapse)


def _mixed(log_odds: float, other: float, share: float) -> float:
    """What is known when with the probability `share` it is the other evidence that holds."""
    probability = (1 - share) * _probability(log_odds) + share * _probability(other)
    return math.log(probability / (1 - probability))


def _probability(log_odds: float) -> float:
    return 1 / (1 + math.exp(-log_odds))


def _blocks(turns: Sequence[Turn]) -> list[tuple[str, float]]:
    """(speaker, seconds of talk) of stretches without the other speaker and without long silence."""
    blocks: list[tuple[str, float]] = []
    end_s = -math.inf
    for turn in turns:
        if blocks and blocks[-1][0] == turn.speaker and turn.start_s - end_s < _BREATH_S:
            blocks[-1] = (turn.speaker, blocks[-1][1] + turn.duration_s)
        else:
            blocks.append((turn.speaker, turn.duration_s))
        end_s = max(end_s, turn.end_s)
    return blocks

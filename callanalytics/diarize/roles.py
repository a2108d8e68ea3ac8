"""Which speaker is the agent: stated by the recorder, else inferred from the timing of turns, not from words.

The clues and their weights come from how service calls run, not from fitting a handful of calls:
whoever answers for a company greets with a whole sentence or two before the caller states a
wish, and an early "hello?" of the other side is short. Log-odds of the clues are added.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from callanalytics.records import Diarization, FloatArray, Role, RoleSource, Turn, VoiceProfile

# A greeting ("Harper Valley National Bank, my name is ...") lasts longer than a "hello?".
_UTTERANCE_S = 1.2
# ... and is answered in kind; to a "hello?" the answer is much longer.
_SHORT_OF_ANSWER = 0.6
# Pieces of one greeting are split by pauses up to this long while nobody else talks.
_BREATH_S = 2.0
# Voice profiles: what a cosine between prints says (chosen on the sets of benchmarks/RESULTS.md marked so).
_N_SIDES = 2
_SAME_VOICE_COSINE = 0.35  # nearer than this, or the agent is somebody whose profile this is not
_LOG_ODDS_PER_COSINE = 10.0
_TELLING_LOG_ODDS = 1.0  # less of a difference between the two sides does not tell them apart
_MOST_CERTAIN = 0.99
# Less sure than this who is the agent, the one taken for the agent may be the caller and is assessed too. On
# 24 built mono calls of CREMA-D speakers 0.85 changes nothing; 0.9 flags an agent, and one of a real call.
SURE_OF_THE_AGENT = 0.8


@dataclass(frozen=True, slots=True)
class RoleGuess:
    """Role of every speaker, how it was found and how sure that is (0..1)."""

    roles: dict[str, Role]
    source: RoleSource
    confidence: float


def stated_roles(
    turns: Sequence[Turn], channel_roles: tuple[Role, ...], source: RoleSource
) -> RoleGuess | None:
    """Roles by channel as the recorder states them; None when it states none for a channel that speaks.

    Each channel must hold one speaker.
    """
    speakers = {turn.speaker: turn.channel for turn in turns}
    if source is RoleSource.NONE or len(set(speakers.values())) != len(speakers):
        return None
    if any(channel >= len(channel_roles) for channel in speakers.values()):
        return None
    roles = {speaker: channel_roles[channel] for speaker, channel in speakers.items()}
    if all(role is Role.UNKNOWN for role in roles.values()):
        return None
    return RoleGuess(roles, source, 0.99)


def inferred_roles(turns: Sequence[Turn]) -> RoleGuess:
    """Agent and caller among the two who talk most; anybody else is unknown.

    One voice alone gets no role: a voicemail and a monologue of either side look the same.
    """
    talk_s: dict[str, float] = {}
    for turn in turns:
        talk_s[turn.speaker] = talk_s.get(turn.speaker, 0.0) + turn.duration_s
    roles = dict.fromkeys(talk_s, Role.UNKNOWN)
    if len(talk_s) < 2:
        return RoleGuess(roles, RoleSource.NONE, 0.0)
    first, second = sorted(talk_s, key=lambda speaker: -talk_s[speaker])[:2]
    main = [turn for turn in turns if turn.speaker in (first, second)]
    odds = agent_log_odds(main, first, second)
    agent, caller = (first, second) if odds >= 0 else (second, first)
    roles[agent], roles[caller] = Role.AGENT, Role.CALLER
    return RoleGuess(roles, RoleSource.INFERRED, 1 / (1 + math.exp(-abs(odds))))


def roles_by_voice(
    turns: Sequence[Turn], voices: Mapping[str, FloatArray], profile: VoiceProfile
) -> RoleGuess | None:
    """Roles where one voice of the call is clearly the agent's; None where the profile does not decide.

    The shape of the talk counts as much as it does without a profile. Somebody else may have answered
    on this agent's account: then no voice is near the profile, and the profile says nothing.

    Args:
        turns: of the whole call, sorted by start.
        voices: unit-length print (192,) by speaker.
        profile: how the agent sounds.
    """
    talk_s: dict[str, float] = {}
    for turn in turns:
        talk_s[turn.speaker] = talk_s.get(turn.speaker, 0.0) + turn.duration_s
    known = {speaker: float(voices[speaker] @ profile.voice) for speaker in talk_s if speaker in voices}
    if len(known) < _N_SIDES:
        return None
    agent = max(known, key=lambda speaker: known[speaker])
    if known[agent] < _SAME_VOICE_COSINE:
        return None
    caller = max((speaker for speaker in talk_s if speaker != agent), key=lambda speaker: talk_s[speaker])
    main = [turn for turn in turns if turn.speaker in (agent, caller)]
    by_voice = _LOG_ODDS_PER_COSINE * (known[agent] - known.get(caller, 0.0))
    by_talk = agent_log_odds(main, agent, caller)
    if by_voice <= max(_TELLING_LOG_ODDS, -by_talk):
        return None
    roles = dict.fromkeys(talk_s, Role.UNKNOWN)
    roles[agent], roles[caller] = Role.AGENT, Role.CALLER
    confidence = 1 / (1 + math.exp(-(by_voice + by_talk)))
    return RoleGuess(roles, RoleSource.VOICE_PROFILE, min(confidence, _MOST_CERTAIN))


def possible_callers(spoken: Diarization) -> tuple[str, ...]:
    """Speakers who may be the caller although they are not called so, in order of appearance.

    Those of unknown role are, and so is an agent where it is not sure who is the agent.
    """
    doubted = {Role.UNKNOWN}
    if spoken.role_confidence < SURE_OF_THE_AGENT:
        doubted.add(Role.AGENT)
    return tuple(speaker for speaker in spoken.speakers if spoken.roles[speaker] in doubted)


def agent_log_odds(turns: Sequence[Turn], one: str, other: str) -> float:
    """Log-odds that `one` of two speakers is the agent. Positive favours `one`."""

    def sign(speaker: str | None) -> float:
        return 0.0 if speaker is None else 1.0 if speaker == one else -1.0

    blocks = _blocks(turns)
    opener = _opener(blocks)
    greeting_s = {s: next((talk for who, talk in blocks if who == s), 0.0) for s in (one, other)}
    # The longer of the two opening blocks, as a tendency: a greeting is longer than a "hello?".
    difference = greeting_s[one] - greeting_s[other]
    talk_s = {s: sum(t.duration_s for t in turns if t.speaker == s) for s in (one, other)}
    share = talk_s[one] / max(1e-9, talk_s[one] + talk_s[other])
    return (
        2.0 * sign(opener)
        + 0.3 * sign(turns[0].speaker if turns else None)
        + 0.6 * math.tanh(difference / 3.0)
        + 0.8 * (share - 0.5)
    )


def _opener(blocks: Sequence[tuple[str, float]]) -> str | None:
    """Who says the first whole utterance: no shorter than one, or than most of the answer to it."""
    for at, (speaker, talk_s) in enumerate(blocks):
        answer_s = next((later_s for who, later_s in blocks[at + 1 :] if who != speaker), math.inf)
        if talk_s >= min(_UTTERANCE_S, _SHORT_OF_ANSWER * answer_s):
            return speaker
    return None


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

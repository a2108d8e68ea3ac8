"""One voice or two: the log-odds that a recording is a conversation.

Nearly every recording of a call is, so even odds for a second voice would be the wrong start. Three things
add up, as log-odds: what is known beforehand (`conversation_share` of the settings), how far apart the
voices of the two groups lie, and how the talk goes: people take turns, so that after a pause it is mostly
the other who speaks, and now and then two talk at once (Sacks, Schegloff, Jefferson: "A simplest
systematics for the organization of turn-taking for conversation", Language 50, 1974). The moods of one
speaker come in long stretches instead. How long the pauses are says nothing: on real calls with both sides
they are as long as on one side alone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from callanalytics.diarize.segmentation import N_LOCAL
from callanalytics.diarize.vad import IntArray
from callanalytics.records import BoolArray, FloatArray

DoubleArray = npt.NDArray[np.float64]
Whole = Callable[[BoolArray], FloatArray]

CONVERSATION_SHARE = 0.8  # of the recordings of which nothing is known; default of the settings
# Pieces closer than this are one stretch of speech.
_NO_PAUSE_S = 0.02
# Probability that the next piece is the same voice's: in one stretch of speech, and after a pause of less
# than 0.3, less than 0.6 and more seconds. In 22 built calls: 0.92; 0.87 to 0.97, 0.70, 0.2; real people go
# on after long pauses more often. Then what the segmenter hears is weighed in.
_STAY_IN_SPEECH = 0.94
_PAUSES_S = (0.3, 0.6)
_STAY_AFTER_PAUSE = (0.9, 0.65, 0.5)
TURN_PAUSE_S = 0.3
_TELLING_PAUSES = 25  # more add nothing: else they would outweigh the voices in long calls
_OVERLAP_FLOOR = 0.01  # many calls have none: that says little
_OVERLAP_MOST = 0.03  # more says no more: babble behind one voice is heard as overlap, too
# How much more often than by chance another speaks after a pause: in 115 built calls rightly divided 1.3
# (median; 0.7 in one of twenty), in 32 of one voice that turns angry 0.5 (benchmarks/RESULTS.md).
_OTHER_IN_TALK, _OTHER_IN_MOODS = 1.1, 0.4
# And how often a part of one voice answers another part of it, against the chance that a third party would.
_ANSWERS_ITSELF = 0.25
# The segmenter hears another local speaker in 55 % of the changes of voice and in 12 % of the places where a
# voice goes on (built calls of CREMA-D voices through PCM, GSM and MP3 at 8 kbit/s).
_ANOTHER_HEARD, _NO_OTHER_HEARD = float(np.log(0.55 / 0.12)), float(np.log(0.45 / 0.88))
# Logistic regression on built calls of development speakers, classes of equal weight, of which some are one
# speaker who talks over himself: otherwise the overlap decides alone. `benchmarks/voice_count.py` prints such
# weights. The first number is lowered by 0.5 (benchmarks/RESULTS.md).
_AT_EVEN_ODDS = -1.64
_WEIGHTS = (0.237, 0.239, 0.736, 0.765)
# Which of several divisions is the voices': acoustic, gain_per_s, turn_taking, local_speakers. The last two
# were chosen on built calls of development speakers beside the first two, which are of an earlier fit.
_PREFERENCE = (0.324, 0.191, 0.5, 0.1)
# Log-odds that the first stretch of speech went to the wrong voice: by how much nearer its print is to that
# voice than to another, never surer than the lapse, and by whether the voices change after it as they do
# after the other pauses of the call (weighed less, as built calls change more strictly than real ones). Of
# 224 built calls of development speakers 13 began so (benchmarks/RESULTS.md).
_OPENING_AT_ZERO, _OPENING_PER_COSINE, _OPENING_LAPSE = -0.1, 28.0, 0.01
_OPENING_PER_CHANGE = 0.7


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When the pieces of speech of a channel are spoken, whoever speaks.

    begin_s, end_s: (n,) in order of time; local_speaker: (n,) whom the segmenter hears, `N_LOCAL` numbers for
    each of its windows, as it tells speakers apart only within one; overlap_share: of the speech, with two at
    once.
    """

    begin_s: DoubleArray
    end_s: DoubleArray
    local_speaker: IntArray
    overlap_share: float

    @property
    def seconds(self) -> DoubleArray:
        """Length of every piece (n,)."""
        return self.end_s - self.begin_s

    @property
    def pause_s(self) -> DoubleArray:
        """Silence before every piece but the first (n - 1,)."""
        return self.begin_s[1:] - self.end_s[:-1]

    @property
    def stay(self) -> DoubleArray:
        """Probability (n - 1,) that a piece is spoken by the voice of the piece before."""
        pause_s = self.pause_s
        after: DoubleArray = np.array(_STAY_AFTER_PAUSE)[np.searchsorted(_PAUSES_S, pause_s, "right")]
        before = np.where(pause_s < _NO_PAUSE_S, _STAY_IN_SPEECH, after)
        stay: DoubleArray = before / (before + (1 - before) * np.exp(self._log_ratio_of_change))
        return stay

    @property
    def _log_ratio_of_change(self) -> DoubleArray:
        """By what the segmenter hears, that a voice other than that of the piece before speaks (n - 1,)."""
        window = self.local_speaker // N_LOCAL
        hears_another = self.local_speaker[1:] != self.local_speaker[:-1]
        log_ratio = np.where(hears_another, _ANOTHER_HEARD, _NO_OTHER_HEARD)
        return np.where(window[1:] == window[:-1], log_ratio, 0.0)

    def of(self, chosen: IntArray) -> Rhythm:
        """That of some pieces."""
        return Rhythm(
            self.begin_s[chosen], self.end_s[chosen], self.local_speaker[chosen], self.overlap_share
        )

    def turn_taking(self, labels: IntArray) -> float:
        """Log-likelihood ratio of a conversation against moods of one voice, by who speaks after pauses.

        By chance the voice after a pause is another with probability 2 p (1 - p), p the share of one voice.
        In conversations it is a little more often, in one voice divided by moods far less.

        Args:
            labels: (n,) 0 or 1.
        """
        after = np.flatnonzero(self.pause_s > TURN_PAUSE_S)
        first = float(self.seconds[labels == 0].sum() / self.seconds.sum())
        by_chance = 2 * first * (1 - first)
        if len(after) == 0 or by_chance == 0:
            return 0.0
        n_other = int(np.count_nonzero(labels[after + 1] != labels[after]))
        talk, moods = min(0.9, _OTHER_IN_TALK * by_chance), _OTHER_IN_MOODS * by_chance
        ratio = n_other * np.log(talk / moods) + (len(after) - n_other) * np.log((1 - talk) / (1 - moods))
        return float(ratio * min(1.0, _TELLING_PAUSES / len(after)))

    def third_party(self, labels: IntArray, one: int, other: int) -> float:
        """Log-likelihood ratio of two people against moods of one, where there is a third voice besides.

        Of three who talk with each other each answers both others. The moods of one speaker never do: between
        them lies what somebody else says.

        Args:
            labels: (n,) 0, 1, 2 and so on.
            one, other: the labels in question.
        """
        share = np.bincount(labels, weights=self.seconds) / self.seconds.sum()
        after = np.flatnonzero((self.pause_s > TURN_PAUSE_S) & (labels[1:] != labels[:-1]))
        ratio = 0.0
        for before, then in ((one, other), (other, one)):
            next_voice = labels[after[labels[after] == before] + 1]
            by_chance = share[then] / (1 - share[before])
            talk, moods = min(0.9, by_chance), _ANSWERS_ITSELF * by_chance
            n_direct = int(np.count_nonzero(next_voice == then))
            ratio += n_direct * np.log(talk / moods)
            ratio += (len(next_voice) - n_direct) * np.log((1 - talk) / (1 - moods))
        return float(ratio)

    def local_speakers(self, labels: IntArray) -> float:
        """Log-likelihood ratio of two voices against one, by whether the segmenter hears them change.

        Args:
            labels: (n,) 0 or 1.
        """
        return float(self._log_ratio_of_change[labels[1:] != labels[:-1]].sum())


@dataclass(frozen=True, slots=True)
class Opening:
    """The first stretch of speech: when it ends, and who else may have said it (a label), how probably."""

    end_s: float
    other: int
    doubt: float


def find_opening(labels: IntArray, rhythm: Rhythm, whole: Whole) -> Opening:
    """How sure it is whose the first words are, up to the first pause or change of voice.

    Told by their print, and by whether the other voice goes on after them as it does elsewhere. They are few,
    and who is the agent hangs on them.

    Args:
        labels: (n,) of two voices or more.
        rhythm: of the same pieces.
        whole: the prints (k, 192) of groups, given as masks (k, n), each pooled as one.
    """
    pauses, changes = rhythm.pause_s > TURN_PAUSE_S, labels[1:] != labels[:-1]
    breaks = pauses | changes
    n_pieces = int(np.argmax(breaks)) + 1
    opening = np.arange(len(labels)) < n_pieces
    groups = (labels == np.arange(int(labels.max()) + 1)[:, None]) & ~opening
    voices = whole(np.concatenate([groups, opening[None]]))
    cosine = voices[:-1] @ voices[-1]
    own = int(labels[0])
    other = int(np.argmax(np.where(np.arange(len(cosine)) == own, -np.inf, cosine)))
    nearer = max(0.0, float(cosine[own] - cosine[other]))
    by_print = _OPENING_LAPSE + (1 - 2 * _OPENING_LAPSE) * _probability(
        _OPENING_AT_ZERO - _OPENING_PER_COSINE * nearer
    )
    later = changes[n_pieces:][pauses[n_pieces:]]
    log_odds_of_change = float(np.log((later.sum() + 1) / ((~later).sum() + 1)))
    by_turns = -log_odds_of_change if changes[n_pieces - 1] else log_odds_of_change
    log_odds = np.log(by_print / (1 - by_print)) + _OPENING_PER_CHANGE * by_turns
    return Opening(float(rhythm.end_s[n_pieces - 1]), other, _probability(log_odds))


def _probability(log_odds: float) -> float:
    return float(1 / (1 + np.exp(-log_odds)))


@dataclass(frozen=True, slots=True)
class Evidence:
    """What speaks for two voices instead of one, given a division of the pieces.

    acoustic: log-likelihood ratio of the groups' prints (`VoiceSpace.two_voices`); gain_per_s: log-likelihood
    that the pieces gain by the division, per second of speech; overlap_share: `Rhythm.overlap_share`;
    turn_taking: `Rhythm.turn_taking`; local_speakers: `Rhythm.local_speakers`; margin: by how much the
    division is preferred to the next that is quite another. Two people are divided in one way, moods in many.
    """

    acoustic: float
    gain_per_s: float
    overlap_share: float
    turn_taking: float
    local_speakers: float
    margin: float = 0.0

    @property
    def terms(self) -> tuple[float, ...]:
        """As weighed: limited, so that nothing decides alone beyond what was seen in development."""
        return (
            float(np.clip(self.acoustic, -10, 15)),
            float(np.clip(self.gain_per_s, 0, 30)),
            float(np.log(min(self.overlap_share, _OVERLAP_MOST) + _OVERLAP_FLOOR)),
            float(np.clip(self.turn_taking, -6, 3)),
        )

    @property
    def preference(self) -> float:
        """Log-odds of this division before others of the same recording, up to a constant.

        Mood moves a voice as far as another speaker of the same sex is away, so the voices alone often prefer
        the angry caller against all else. Who answers whom tells, without a limit here.
        """
        acoustic, gain_per_s, *_ = self.terms
        return float(np.dot(_PREFERENCE, (acoustic, gain_per_s, self.turn_taking, self.local_speakers)))


def log_odds_of_conversation(conversation_share: float, evidence: Evidence) -> float:
    """Log-odds of two voices or more: what is known beforehand, plus voices, plus turn-taking.

    Args:
        conversation_share: of such recordings that hold two voices or more, 0..1.
        evidence: of the division in question.
    """
    share = min(max(conversation_share, 1e-6), 1 - 1e-6)
    return float(np.log(share / (1 - share)) + _AT_EVEN_ODDS + np.dot(_WEIGHTS, evidence.terms))

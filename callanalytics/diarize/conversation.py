"""One voice or two: the log-odds that a recording holds a conversation.

Nearly every recording of a call does, so even odds for a second voice would be the wrong start. Three things add
up, as log-odds: what is known beforehand (`conversation_share` of the settings), how far apart the voices of the
two groups lie, and how the talk goes (`Rhythm`): people answer each other within a second and now and then talk
at once, while a message pauses little and one side of a call pauses as long as the other side talks (Sacks,
Schegloff, Jefferson: "A simplest systematics for the organization of turn-taking", Language 50, 1974; Heldner,
Edlund: "Pauses, gaps and overlaps in conversations", Journal of Phonetics 38, 2010).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from callanalytics.diarize.vad import IntArray
from callanalytics.records import BoolArray

DoubleArray = npt.NDArray[np.float64]

# Pieces closer than this are one stretch of speech.
_NO_PAUSE_S = 0.02
# Probability that the next piece is the same voice's: in one stretch of speech; there, where the segmenter hears
# another local speaker; and after a pause of less than 0.3, less than 0.6 and more seconds.
_STAY_IN_SPEECH, _STAY_AT_CHANGE = 0.94, 0.75
_PAUSES_S = (0.3, 0.6)
_STAY_AFTER_PAUSE = (0.9, 0.65, 0.5)


@dataclass(frozen=True, slots=True)
class Rhythm:
    """When the pieces of speech of a channel are spoken, whoever speaks.

    begin_s, end_s: (n,) in order of time; another: (n,) whether the segmenter hears another local speaker than
    just before; overlap_share: of the speech, with two at once.
    """

    begin_s: DoubleArray
    end_s: DoubleArray
    another: BoolArray
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
        inside = np.where(self.another[1:], _STAY_AT_CHANGE, _STAY_IN_SPEECH)
        return np.where(pause_s < _NO_PAUSE_S, inside, after)

    def of(self, chosen: IntArray) -> Rhythm:
        """That of some pieces."""
        return Rhythm(self.begin_s[chosen], self.end_s[chosen], self.another[chosen], self.overlap_share)

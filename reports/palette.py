"""How an emotion looks everywhere: a name, a letter and a CSS class. Colours live in `style.css`.

Colour is never alone: every fill also has a pattern (`templates/patterns.html`) and, where there is
room, the letter. Anger stands out; neutral and "no label" recede. The hues follow the colour-blind-safe
set of Okabe and Ito (2008), darkened or lightened per theme; tests/reports/test_report_parts.py measures how
far apart they stay for people with protanopia and deuteranopia.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ensemble.labels import EMOTIONS

# Letters are fixed, so that a reader of last year's report reads this year's.
LETTERS = {
    **{"anger": "A", "boredom": "B", "calm": "C", "disgust": "D", "fear": "F"},
    **{"happy": "H", "neutral": "N", "sad": "S", "surprise": "U"},
}
NO_LABEL = "none"


@dataclass(frozen=True, slots=True)
class Badge:
    """One emotion as pages show it. `key` is the CSS class suffix and the pattern id suffix."""

    key: str
    letter: str
    name: str


ABSTAINED = Badge(NO_LABEL, "–", "no label")
BADGES = {emotion: Badge(emotion, LETTERS[emotion], emotion) for emotion in EMOTIONS}


def badge(emotion: str | None) -> Badge:
    """The badge of a stored emotion; NULL is "no label", never an emotion."""
    return ABSTAINED if emotion is None else BADGES[emotion]


def legend(emotions: Iterable[str]) -> tuple[Badge, ...]:
    """Badges of the given emotions in their one order, then "no label"."""
    chosen = set(emotions)
    return (*(BADGES[e] for e in EMOTIONS if e in chosen), ABSTAINED)

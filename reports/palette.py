"""How an emotion looks everywhere: a name, a letter and a CSS class. Colours live in `style.css`.

Colour is never alone: every fill also has a pattern (`templates/patterns.html`) and, where there is
room, the letter. Anger stands out; neutral and "no label" recede. The hues follow the colour-blind-safe
set of Okabe and Ito (2008), darkened or lightened per theme; tests/reports/test_report_parts.py measures how
far apart they stay for people with protanopia and deuteranopia.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache

from ensemble.labels import EMOTIONS
from reports.translation import _, language, marked

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


ABSTAINED = Badge(NO_LABEL, "–", marked("no label"))
NOT_ASKED = marked("not asked")
NAMES = {
    "anger": marked("anger"),
    "boredom": marked("boredom"),
    "calm": marked("calm"),
    "disgust": marked("disgust"),
    "fear": marked("fear"),
    "happy": marked("happy"),
    "neutral": marked("neutral"),
    "sad": marked("sad"),
    "surprise": marked("surprise"),
}


def badge(emotion: str | None) -> Badge:
    """The badge of a stored emotion; NULL is "no label", never an emotion."""
    return _badge(emotion, language())


@cache
def _badge(emotion: str | None, _language: str) -> Badge:
    if emotion is None:
        return replace(ABSTAINED, name=_(ABSTAINED.name))
    return Badge(emotion, LETTERS[emotion], _(NAMES[emotion]))


def not_asked() -> Badge:
    """The badge of a member that has no opinion of a segment: drawn as "no label", read as what it is."""
    return replace(ABSTAINED, name=_(NOT_ASKED))


def legend(emotions: Iterable[str]) -> tuple[Badge, ...]:
    """Badges of the given emotions in their one order, then "no label"."""
    chosen = set(emotions)
    return (*(badge(e) for e in EMOTIONS if e in chosen), badge(None))

"""Numbers in what was said become `[number]` before anything is stored: cards, telephones, dates of birth.

Masked is a run of numbers with three digits or more altogether, as digits or as words (English, German,
Spanish), and a month with a day or a year. So amounts go too, and "the third time" or "five minutes" stay.
PCI DSS v4.0.1 (requirement 3.3.1.2) forbids to store even the three digits of a card verification code.

Not known: number words of other languages, and numbers that a recogniser wrote as other words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from callanalytics.analysis.words import Word

MASK = "[number]"
_MIN_DIGITS = 3
# A pause that long ends a run: a number is spoken in groups, with pauses.
_PAUSE_S = 10.0
# So many words that are no numbers may stand between two numbers of one run.
_MOST_BETWEEN = 2


def _words(text: str, n_digits: int) -> dict[str, int]:
    return dict.fromkeys(text.split(), n_digits)


_UNITS = _words(
    "zero oh o nought nil one two three four five six seven eight nine double triple treble"
    " first second third fourth fifth sixth seventh eighth ninth"
    " null eins zwei zwo drei vier fünf sechs sieben acht neun"
    " cero uno dos tres cuatro cinco seis siete ocho nueve",
    1,
)
_TENS = _words(
    "twenty thirty forty fourty fifty sixty seventy eighty ninety"
    " treinta cuarenta cincuenta sesenta setenta ochenta noventa",
    2,
)
_TEENS = _words(
    "ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen"
    " tenth eleventh twelfth thirteenth fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth"
    " twentieth thirtieth hundred hundredth thousand million"
    " diez once doce trece catorce quince dieciséis diecisiete dieciocho diecinueve veinte"
    " veintiuno veintiún veintidós veintitrés veinticuatro veinticinco veintiséis veintisiete veintiocho"
    " veintinueve cien ciento doscientos trescientos cuatrocientos quinientos seiscientos setecientos"
    " ochocientos novecientos mil",
    2,
)
_NUMBERS = _UNITS | _TENS | _TEENS
_MONTHS = _words(
    "january february march april may june july august september october november december"
    " januar jänner februar märz mai juni juli oktober dezember"
    " enero febrero marzo abril mayo junio julio agosto septiembre octubre noviembre diciembre"
    " jan feb mar apr jun jul aug sep sept oct nov dec okt dez",
    0,
)
# Words between the numbers of one run: how people group them, how a recogniser writes "two", "four", "eight".
_BETWEEN = _words(
    "and then dash hyphen minus point dot slash space of the uh um er erm okay ok yes yeah to too for ate won"
    " und strich punkt komma schrägstrich äh ähm ja der dem des"
    " y de del guion guión punto barra eh sí",
    0,
)
_GERMAN = re.compile(
    r"(?:ein|zwei|zwo|drei|vier|fünf|sechs|sech|sieben|sieb|acht|neun|zehn|elf|zwölf|zwanzig|dreissig"
    r"|vierzig|fünfzig|sechzig|siebzig|achtzig|neunzig|hundert|tausend|und(?=\w)){1,12}(?:s?te[nrsm]?)?"
)
_GERMAN_ONE = re.compile(r"(?:erste|dritte|siebte|achte)[nrsm]?|(?:zwei|vier|fünf|sechs|neun)te[nrsm]?")
_ARTICLE = re.compile(r"ein|und")
_LONG = re.compile(r"hundert|tausend")


def mask_numbers(words: Sequence[Word]) -> list[Word | None]:
    """The words of one voice in order: `MASK` in the place of a number's first word, None for its others."""
    result: list[Word | None] = list(words)
    run: list[int] = []  # positions of numbers and of what stands between them
    for position in range(len(words)):
        kind = _kind(words[position])
        far = bool(run) and _pause_s(words[run[-1]], words[position]) > _PAUSE_S
        if run and not far and (kind is not None or _between(words, run, position)):
            run.append(position)
            continue
        _close(words, run, result)
        run = [position] if kind is not None else []
    _close(words, run, result)
    return result


def _kind(word: Word) -> tuple[str, int] | None:
    """What kind of number a word is, and how many digits it stands for; None for another word."""
    n_digits = sum(character.isdigit() for character in word.text)
    if n_digits:
        return "digits", n_digits
    text = _bare(word.text)
    if text in _MONTHS:
        return "month", 0
    if text in _NUMBERS:
        return ("tens" if text in _TENS else "unit" if text in _UNITS else "teen"), _NUMBERS[text]
    parts = text.split("-")
    if len(parts) > 1 and all(part in _NUMBERS for part in parts):
        return "digits", len(parts) if parts[0] in _UNITS else 2
    if _GERMAN_ONE.fullmatch(text):
        return "unit", 1
    if _GERMAN.fullmatch(text) and not _ARTICLE.fullmatch(text):
        return "teen", 4 if _LONG.search(text) else 2
    return None


def _bare(text: str) -> str:
    return text.casefold().strip(".,;:!?\"'“”„()[]…")


def _between(words: Sequence[Word], run: Sequence[int], position: int) -> bool:
    """Whether a word that is no number may stand inside the run."""
    n_before = 0
    for earlier in reversed(run):
        if _kind(words[earlier]) is not None:
            break
        n_before += 1
    return n_before < _MOST_BETWEEN and _bare(words[position].text) in _BETWEEN


def _pause_s(before: Word, after: Word) -> float:
    return 0.0 if before.end_s is None or after.start_s is None else after.start_s - before.end_s


def _close(words: Sequence[Word], run: list[int], result: list[Word | None]) -> None:
    """Mask the run if it says enough; what stands after its last number is none of it."""
    while run and _kind(words[run[-1]]) is None:
        run.pop()
    kinds = [_kind(words[position]) for position in run]
    found = [kind for kind in kinds if kind is not None]
    n_digits = 0
    for number, (kind, n) in enumerate(found):
        # "twenty five" has two digits.
        n_digits += 0 if kind == "unit" and number and found[number - 1][0] == "tens" else n
    dated = any(kind == "month" for kind, _ in found) and n_digits > 0
    if n_digits < _MIN_DIGITS and not dated:
        return
    first, last = words[run[0]], words[run[-1]]
    ending = re.search(r"[.,;:!?]*$", last.text)
    text = MASK + (ending[0] if ending else "")
    result[run[0]] = replace(first, text=text, end_s=last.end_s)
    for position in run[1:]:
        result[position] = None

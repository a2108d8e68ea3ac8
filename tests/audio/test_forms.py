"""The forms of docs/reference/formats.md: each is read whole, or refused; nothing is lost silently."""

from __future__ import annotations

from pathlib import Path

import pytest
from forms import HEADERLESS, ODD, WHOLE, Form, judged

from callanalytics.audio import CANONICAL_RATE_HZ, decode_recording
from callanalytics.config import AudioSettings
from callanalytics.errors import RecordingError

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "formats.md"
SETTINGS = AudioSettings(headerless=AudioSettings().headerless | HEADERLESS)
QUICK = [form for number, form in enumerate(ODD) if number % 4 == 0]
# Whole recordings that take lines of their own: no other quick test has such a file.
QUICK += [form for form in WHOLE if form.name.startswith(("VOC, 8 bits", "MP3 without Xing"))]


def check(form: Form, folder: Path) -> None:
    path = folder / f"call.{form.extension}"
    form.build(path)
    if form.refused is not None:
        with pytest.raises(RecordingError) as caught:
            decode_recording([path], SETTINGS)
        assert len(str(caught.value)) > 40
        return
    assert judged(decode_recording([path], SETTINGS).samples, CANONICAL_RATE_HZ, form) == "whole"


@pytest.mark.parametrize("form", QUICK, ids=lambda form: form.name)
def test_some_forms_are_read_whole_or_refused(form: Form, tmp_path: Path) -> None:
    check(form, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("form", [*WHOLE, *ODD], ids=lambda form: form.name)
def test_every_form_is_read_whole_or_refused(form: Form, tmp_path: Path) -> None:
    check(form, tmp_path)


def test_the_page_shows_every_form_and_no_silent_loss_of_ours() -> None:
    rows = [line.strip("| ").split(" | ") for line in PAGE.read_text(encoding="utf-8").splitlines()]
    ours = {row[0]: row[1] for row in rows if len(row) > 4}
    shown = {form.name: ours[form.name] for form in (*WHOLE, *ODD)}
    refused = {form.name for form in ODD if form.refused}
    assert len(shown) > 60
    assert {name for name, cell in shown.items() if cell.startswith("refused: ")} == refused
    assert {name for name, cell in shown.items() if cell == "whole"} == set(shown) - refused

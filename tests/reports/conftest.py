"""A report in every form, made once for the tests that only read it."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixture_calls import plausible_calls
from report_sites import HOSTILE, LONG, RIGHT_TO_LEFT, Site, days, publish_site, renamed

from callanalytics.audio.thumbnails import call_pictures
from callanalytics.records import Audio


@pytest.fixture(scope="session")
def every_form(made_once: Callable[[str, Callable[[Path], Any]], tuple[Path, Any]]) -> Site:
    """Pages, one file and mail of a week, with real sounds as clips; some names are meant to do harm."""
    site: Site = made_once("every-form", _publish_every_form)[1]
    return site


def _publish_every_form(folder: Path) -> Site:
    calls = plausible_calls(20, 12)
    noise = np.random.default_rng(0).normal(0, 0.1, (2, 8000)).astype(np.float32)
    pictures = call_pictures(Audio(noise, 8000, 8000, "pcm_s16le", "wav", 0.0), (0, 1))
    calls = [replace(call, clips=(*call.clips, *pictures)) if call.clips else call for call in calls]
    flagged = [i for i, call in enumerate(calls) if call.assessment.flagged][-3:]
    for index, name in zip(flagged, (HOSTILE, RIGHT_TO_LEFT, LONG), strict=True):
        calls[index] = renamed(calls[index], name)
    made = publish_site(folder / "out", calls)
    for clip in made.folder.rglob("*.mp3"):
        write_sound(clip)
    made.build(days(7))
    made.single(days(7))
    made.mail(days(7))
    return made


def write_sound(path: Path) -> None:
    """Half a second of silence; browsers look at the content, not at the name."""
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(bytes(8000))

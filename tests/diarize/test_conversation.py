"""One voice or two: what is known beforehand, the voices, and how they take turns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from callanalytics.config import Settings
from callanalytics.config.call_settings import AudioSettings, RecorderSettings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.conversation import (
    CONVERSATION_SHARE,
    Evidence,
    Rhythm,
    log_odds_of_conversation,
)
from callanalytics.diarize.quality import Quality

RATE_HZ = 8000
UNCLEAR = Evidence(acoustic=-4.0, gain_per_s=10.0, overlap_share=0.0, turn_taking=0.0)


@pytest.fixture(scope="module")
def models() -> SpeechModels:
    return SpeechModels.load()


def rhythm(n: int) -> Rhythm:
    """A second of speech, half a second of silence, and so on."""
    begin_s = 1.5 * np.arange(n)
    return Rhythm(begin_s, begin_s + 1, np.zeros(n, np.bool_), overlap_share=0.0)


def test_what_is_known_beforehand_adds_its_log_odds() -> None:
    even, mostly = (log_odds_of_conversation(share, UNCLEAR) for share in (0.5, 0.9))
    assert mostly - even == pytest.approx(np.log(9))
    assert log_odds_of_conversation(0.0, UNCLEAR) < -10 < 10 < log_odds_of_conversation(1.0, UNCLEAR)


@pytest.mark.parametrize(
    ("evidence", "step"),
    [("acoustic", 5.0), ("gain_per_s", 10.0), ("overlap_share", 0.03), ("turn_taking", 3.0)],
)
def test_all_evidence_speaks_for_a_second_voice(evidence: str, step: float) -> None:
    more = replace(UNCLEAR, **{evidence: getattr(UNCLEAR, evidence) + step})
    assert log_odds_of_conversation(0.5, more) > log_odds_of_conversation(0.5, UNCLEAR) + 0.5


def test_no_single_evidence_outweighs_all_others() -> None:
    """Two groups far apart that never answer each other: a change of mood, or another recording."""
    apart = replace(UNCLEAR, acoustic=1e6, turn_taking=-1e6)
    assert log_odds_of_conversation(0.5, apart) < 4


def test_who_takes_turns_is_a_conversation_and_who_changes_once_is_not() -> None:
    talk = rhythm(24)
    in_turns = np.arange(24) % 2
    assert talk.turn_taking(in_turns) > 5
    assert talk.turn_taking(np.sort(in_turns)) < -5
    assert talk.turn_taking(np.zeros(24, np.int64)) == 0
    assert talk.turn_taking(in_turns) == talk.turn_taking(1 - in_turns)


def test_only_turns_after_a_pause_count() -> None:
    begin_s = np.arange(24.0)
    without_pauses = Rhythm(begin_s, begin_s + 1, np.zeros(24, np.bool_), overlap_share=0.0)
    assert without_pauses.turn_taking(np.arange(24) % 2) == 0


def test_a_voice_goes_on_within_a_stretch_of_speech_and_may_change_after_a_pause() -> None:
    begin_s = np.array([0.0, 1.0, 2.0, 3.1, 4.5, 8.0])
    heard = Rhythm(
        begin_s,
        np.array([1.0, 2.0, 3.0, 4.1, 5.5, 9.0]),
        np.array([0, 0, 1, 0, 0, 0], bool),
        overlap_share=0.0,
    )
    within, at_change, short, long, longer = heard.stay
    assert within > short > at_change > long > longer
    assert heard.of(np.array([0, 5])).stay.tolist() == [longer]


def test_the_share_of_a_recorder_goes_before_that_of_all() -> None:
    settings = Settings(audio=AudioSettings(conversation_share=0.7))
    voicemail = RecorderSettings(name="voicemail", kind="generic", conversation_share=0.0)
    assert settings.conversation_share(voicemail.conversation_share) == 0
    assert settings.conversation_share(None) == 0.7
    assert Settings().conversation_share(None) == CONVERSATION_SHARE


def through_gsm(samples: np.ndarray, folder: Path) -> np.ndarray:
    """The samples (n,) coded as GSM 06.10 and decoded again."""
    path = folder / "call.wav"
    soundfile.write(path, samples, RATE_HZ, format="WAV", subtype="GSM610")
    return soundfile.read(path, dtype="float32")[0]


@pytest.mark.parametrize("name", ["agent.wav", pytest.param("agent2.wav", marks=pytest.mark.slow)])
def test_one_side_of_a_real_call_is_one_voice(name: str, data_dir: Path, models: SpeechModels) -> None:
    """Both files hold three turns in a row that sound unlike the others: nobody answers them."""
    samples, _ = soundfile.read(data_dir / "calls" / "one-sided" / name, dtype="float32")
    found = diarize(samples[None], RATE_HZ, models=models)
    assert len(found.speakers) == 1
    assert Quality.ONE_VOICE in found.quality


def test_two_parties_of_a_real_call_are_two_through_gsm(
    data_dir: Path, models: SpeechModels, tmp_path: Path
) -> None:
    """Voices that lie near each other: at even odds, and without looking at who answers, they were one."""
    path = data_dir / "calls" / "harper-valley" / "mono" / "010eaccb7a23436f.wav"
    samples = through_gsm(soundfile.read(path, dtype="float32")[0], tmp_path)
    found = diarize(samples[None], RATE_HZ, models=models)
    assert len(found.speakers) == 2
    assert Quality.ONE_VOICE not in found.quality
    assert len(diarize(samples[None], RATE_HZ, conversation_share=0.0, models=models).speakers) == 1

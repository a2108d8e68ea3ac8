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
from callanalytics.diarize.clustering import Grouping, VoiceSpace, cluster_voices
from callanalytics.diarize.conversation import (
    CONVERSATION_SHARE,
    Evidence,
    Rhythm,
    find_opening,
    log_odds_of_conversation,
)
from callanalytics.diarize.quality import Quality
from callanalytics.records import BoolArray, FloatArray

RATE_HZ = 8000
UNCLEAR = Evidence(acoustic=-4.0, gain_per_s=10.0, overlap_share=0.0, turn_taking=0.0, local_speakers=0.0)


@pytest.fixture(scope="module")
def models() -> SpeechModels:
    return SpeechModels.load()


def rhythm(n: int) -> Rhythm:
    """A second of speech, half a second of silence, and so on."""
    begin_s = 1.5 * np.arange(n)
    return Rhythm(begin_s, begin_s + 1, np.zeros(n, np.int64), overlap_share=0.0)


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
    without_pauses = Rhythm(begin_s, begin_s + 1, np.zeros(24, np.int64), overlap_share=0.0)
    assert without_pauses.turn_taking(np.arange(24) % 2) == 0


def test_a_voice_goes_on_within_a_stretch_of_speech_and_may_change_after_a_pause() -> None:
    begin_s = np.array([0.0, 1.0, 2.1, 3.5, 7.0])
    heard = Rhythm(begin_s, np.array([1.0, 2.0, 3.1, 4.5, 8.0]), np.zeros(5, np.int64), overlap_share=0.0)
    within, short, long, longer = heard.stay
    assert within > short > long > longer
    assert heard.of(np.array([0, 4])).stay.tolist() == [longer]


def test_another_local_speaker_is_a_change_of_voice_but_only_within_one_window() -> None:
    """The segmenter numbers its speakers anew in every window: 0 to 2, 3 to 5, and so on."""
    begin_s = 1.5 * np.arange(4)
    heard = Rhythm(begin_s, begin_s + 1, np.array([0, 1, 1, 3]), overlap_share=0.0)
    other, same, unknown = heard.stay
    assert other < unknown < same
    in_turns, as_heard = np.array([0, 1, 0, 1]), np.array([0, 1, 1, 1])
    assert heard.local_speakers(as_heard) > heard.local_speakers(in_turns) > 0
    assert heard.local_speakers(np.array([0, 0, 1, 1])) < 0
    assert heard.local_speakers(np.zeros(4, np.int64)) == 0


def test_who_answers_whom_chooses_between_divisions() -> None:
    """One person's calm and angry speech lie as far apart as two people do, but do not answer each other."""
    voices = replace(UNCLEAR, acoustic=8.0, gain_per_s=20.0, turn_taking=20.0)
    moods = replace(voices, acoustic=10.0, gain_per_s=21.0, turn_taking=10.0)
    assert voices.preference > moods.preference
    assert replace(moods, turn_taking=20.0).preference > voices.preference


def test_of_three_people_each_answers_both_others_and_moods_do_not() -> None:
    talk = rhythm(24)
    in_turns = np.arange(24) % 3
    assert talk.third_party(in_turns, 1, 2) > 3
    moods = np.where(np.arange(24) % 2 == 0, 0, 1 + (np.arange(24) > 11))
    assert talk.third_party(moods, 1, 2) < -3


def test_the_share_of_a_recorder_goes_before_that_of_all() -> None:
    settings = Settings(audio=AudioSettings(conversation_share=0.7))
    voicemail = RecorderSettings(name="voicemail", kind="generic", conversation_share=0.0)
    assert settings.conversation_share(voicemail.conversation_share) == 0
    assert settings.conversation_share(None) == 0.7
    assert Settings().conversation_share(None) == CONVERSATION_SHARE


def grouped(*voices: tuple[float, float], pause_s: float = 0.5) -> Grouping:
    """Turns of two seconds of voices at places in a plane, in which people differ as much as moods do."""
    random = np.random.default_rng(5)
    place = np.zeros((2 * len(voices), 192))
    place[:, :2] = np.repeat(voices, 2, axis=0)
    place[:, 2] = 1.0
    prints = place + 0.01 * random.standard_normal(place.shape)
    prints = (prints / np.linalg.norm(prints, axis=1, keepdims=True)).astype(np.float32)
    space = VoiceSpace(15 * np.eye(192, 2, dtype=np.float32), np.full(2, 4.0, np.float32))
    begin_s = np.repeat((2 + pause_s) * np.arange(len(voices)), 2) + np.tile([0.0, 1.0], len(voices))

    def whole(groups: BoolArray) -> FloatArray:
        return np.stack([prints[group].mean(axis=0) for group in groups])

    talk = Rhythm(begin_s, begin_s + 1, np.arange(len(begin_s)) * 3, overlap_share=0.0)
    return cluster_voices(prints, talk, space, whole, CONVERSATION_SHARE)


CALM_CALLER, ANGRY_CALLER, AGENT = (0.0, 0.0), (0.0, 0.3), (0.25, 0.0)


def test_a_caller_who_turns_angry_is_still_one_voice() -> None:
    """The angry turns lie farther from the calm ones than the agent does: they were a voice of their own."""
    turns = [AGENT, CALM_CALLER] * 6 + [AGENT, ANGRY_CALLER] * 6
    found = grouped(*turns)
    assert found.labels.tolist() == [0, 0, 1, 1] * 12


def test_a_voice_that_may_hold_both_people_is_noted() -> None:
    clear = grouped(*[AGENT, CALM_CALLER] * 12)
    assert not clear.in_doubt
    uneven = grouped(*[(0.6, 0.0), CALM_CALLER, CALM_CALLER, CALM_CALLER] * 6, pause_s=0.2)
    assert uneven.labels.max() == 1
    assert uneven.in_doubt


def test_first_words_that_sound_like_neither_voice_may_be_the_other_ones() -> None:
    """Up to the first pause; they count for no voice themselves, or they would be near their own."""
    at = np.array([0, 0, 0, 0, 1, 1, 0, 0, 1, 1])
    prints = np.zeros((10, 192), np.float32)
    prints[np.arange(10), at] = 1
    begin_s = np.arange(10) + 0.5 * np.repeat(np.arange(5), 2)
    talk = Rhythm(begin_s, begin_s + 1, np.zeros(10, np.int64), overlap_share=0.0)

    def whole(groups: BoolArray) -> FloatArray:
        means = groups.astype(np.float32) @ prints
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)

    clear = find_opening(at, talk, whole)
    assert (clear.end_s, clear.other) == (2.0, 1)
    assert clear.doubt < 0.02
    prints[:2] = 0.5**0.5 * (prints[2] + prints[4])
    assert 0.2 < find_opening(at, talk, whole).doubt < 0.5
    prints[:2] = prints[4]
    assert 0.2 < find_opening(at, talk, whole).doubt < 0.5, "who is nearest is not sure of the division"


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

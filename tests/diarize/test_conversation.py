"""One voice or two: what is known beforehand, the voices, and how they take turns."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import soundfile

from callanalytics.config import Settings
from callanalytics.config.call_settings import AudioSettings, RecorderSettings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.clustering import (
    MAX_SPEAKERS,
    Grouping,
    Speech,
    VoiceSpace,
    cluster_voices,
    mean_prints,
)
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


def grouped(*voices: tuple[float, float], pause_s: float = 0.5, pieces: int = 2) -> Grouping:
    """Turns of so many pieces of a second of voices at places in a plane.

    There people differ as much as moods do.
    """
    random = np.random.default_rng(5)
    place = np.zeros((pieces * len(voices), 192))
    place[:, :2] = np.repeat(voices, pieces, axis=0)
    place[:, 2] = 1.0
    prints = place + 0.01 * random.standard_normal(place.shape)
    prints = (prints / np.linalg.norm(prints, axis=1, keepdims=True)).astype(np.float32)
    space = VoiceSpace(15 * np.eye(192, 2, dtype=np.float32), np.full(2, 4.0, np.float32))
    at_s = np.repeat((pieces + pause_s) * np.arange(len(voices)), pieces)
    begin_s = at_s + np.tile(np.arange(float(pieces)), len(voices))

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


FAR = ((0.6, 0.0), (-0.6, 0.0), (0.0, 0.6), (0.0, -0.6), (0.6, 0.6))


@pytest.mark.parametrize("n_voices", [1, 2, 3, 4, 5])
def test_voices_far_apart_are_told_up_to_four(n_voices: int) -> None:
    found = grouped(*FAR[:n_voices] * 5)
    assert found.labels.max() + 1 == min(n_voices, MAX_SPEAKERS)
    assert found.labels[0] == 0
    if n_voices <= MAX_SPEAKERS:
        same = found.labels[:, None] == found.labels
        whose = np.repeat(np.arange(5 * n_voices) % n_voices, 2)
        assert (same == (whose[:, None] == whose)).all()


@pytest.mark.parametrize(("n_turns", "n_voices"), [(1, 1), (2, 1), (3, 2)])
def test_two_voices_need_three_pieces_each(n_turns: int, n_voices: int) -> None:
    """A turn is of two pieces; of the second voice there are n - 1 more and one half."""
    found = grouped(*[FAR[0], FAR[1]] * n_turns, pieces=1)
    assert found.labels.max() + 1 == n_voices


@pytest.mark.parametrize(("third", "n_voices"), [(2, 2), (3, 3)])
def test_a_third_voice_needs_five_seconds_of_its_own(third: int, n_voices: int) -> None:
    """Turns of two seconds: four seconds are too little, and six are enough of a minute."""
    turns = [FAR[0], FAR[1]] * 12
    for n in range(third):
        turns.insert(4 + 6 * n, FAR[2])
    found = grouped(*turns)
    assert found.labels.max() + 1 == n_voices
    if n_voices == 2:
        assert found.may_be_more, "it is noted"


@pytest.mark.parametrize(("n_first", "in_doubt"), [(16, False), (18, True)])
def test_voices_of_which_one_says_over_seven_tenths_may_be_badly_divided(
    n_first: int, in_doubt: bool
) -> None:
    """Of 24 turns; where nothing else speaks for doubt."""
    order = [FAR[0] if (n * n_first) // 24 != ((n + 1) * n_first) // 24 else FAR[1] for n in range(24)]
    found = grouped(*order)
    assert np.bincount(found.labels).max() == 2 * n_first
    assert found.in_doubt is in_doubt


def test_how_far_apart_two_prints_lie_is_a_ratio_of_two_gaussians(rng: np.random.Generator) -> None:
    """Of one voice in two moods, and of two voices, each known as well as so many seconds tell."""
    projection = rng.standard_normal((192, 3)).astype(np.float32)
    between = np.array([4.0, 1.0, 0.25], np.float32)
    one, other = rng.standard_normal((2, 192)).astype(np.float32) / 10
    space = VoiceSpace(projection, between)
    for one_s, other_s in ((3.0, 12.0), (12.0, 3.0), (0.5, 60.0)):
        same = 1.0 + 10.0 / one_s + 10.0 / other_s
        difference = (one - other) @ projection
        log_density = [
            -0.5 * np.sum(np.log(variance) + difference**2 / variance)
            for variance in (same + 2 * between, np.full(3, same))
        ]
        expected = log_density[0] - log_density[1]
        assert space.two_voices(one, one_s, other, other_s) == pytest.approx(expected, rel=1e-4)
    assert space.two_voices(one, 0.0, other, 1.0) == pytest.approx(0, abs=1e-2), (
        "nothing heard, nothing known"
    )


def test_the_print_of_a_group_is_the_mean_by_seconds_of_unit_length(rng: np.random.Generator) -> None:
    prints = rng.standard_normal((5, 192)).astype(np.float32)
    seconds, labels = np.array([1.0, 0.5, 2.0, 0.0, 1.0]), np.array([0, 2, 0, 1, 2])
    found = mean_prints(prints, seconds, labels)
    for k, members in enumerate(([0, 2], [3], [1, 4])):
        mean = seconds[members] @ prints[members]
        np.testing.assert_allclose(found[k], mean / max(np.linalg.norm(mean), 1e-9), atol=1e-6)
    assert (found.shape, found.dtype) == ((3, 192), np.float32)


def test_the_gain_of_a_division_is_that_of_all_ways_to_take_turns(rng: np.random.Generator) -> None:
    """Every one of the 2^8 sequences of speakers, each with its probability, worked out one by one."""
    n, labels = 8, np.array([0, 0, 1, 1, 0, 1, 0, 1])
    place = np.zeros((n, 192))
    place[:, 0], place[:, 1] = 1.0, 0.3 * labels
    prints = place + 0.005 * rng.standard_normal(place.shape)
    prints = (prints / np.linalg.norm(prints, axis=1, keepdims=True)).astype(np.float32)
    space = VoiceSpace(5 * np.eye(192, 2, dtype=np.float32), np.full(2, 4.0, np.float32))
    begin_s = np.cumsum([0.0, 1.0, 1.6, 1.8, 2.5, 1.7, 1.2, 1.5])
    seconds = np.array([1.0, 0.9, 1.5, 1.4, 0.7, 0.9, 1.0, 1.3])
    talk = Rhythm(begin_s, begin_s + seconds, np.zeros(n, np.int64), overlap_share=0.02)

    def whole(groups: BoolArray) -> FloatArray:
        return np.stack([prints[group].mean(axis=0) for group in groups])

    found = Speech(prints, talk, space, whole).divisions()
    (evidence,) = [row.evidence for row in found if row.labels.tolist() == labels.tolist()]
    features = np.concatenate([prints * np.sqrt(200), prints @ space.projection], axis=1).astype(np.float64)
    features -= features.mean(axis=0)
    weight, share = np.clip(seconds, 0.2, 1.0), np.where(labels[:, None] == [0, 1], 0.98, 0.02)
    paths = np.array(list(product((0, 1), repeat=n)))
    log_path = np.log(np.where(np.diff(paths) == 0, talk.stay, 1 - talk.stay)).sum(axis=1) + np.log(0.5)
    for _ in range(6):
        spoken = share * weight[:, None]
        means = spoken.T @ features / (spoken.sum(axis=0)[:, None] + 1)
        score = weight[:, None] * (features @ means.T - 0.5 * (means**2).sum(axis=1))
        log = log_path + score[np.arange(n), paths].sum(axis=1)
        whole_log = np.logaddexp.reduce(log)
        share = np.stack([np.exp(log - whole_log) @ (paths == k) for k in (0, 1)], axis=1)
    assert evidence.gain_per_s == pytest.approx(whole_log / weight.sum(), rel=1e-3)
    one, other = whole(np.stack([labels == 0, labels == 1]))
    own_s = [seconds[labels == k].sum() for k in (0, 1)]
    assert evidence.acoustic == pytest.approx(space.two_voices(one, own_s[0], other, own_s[1]), rel=1e-5)
    assert evidence.overlap_share == 0.02
    assert evidence.turn_taking == pytest.approx(talk.turn_taking(labels))
    assert evidence.local_speakers == pytest.approx(talk.local_speakers(labels))


@pytest.mark.parametrize(
    ("unclear", "turns", "least", "most"),
    [
        (False, "0010101", 0.0, 0.1),
        (True, "0010101", 0.5, 0.9),  # goes on after the first pause, and after no other
        (True, "0101010", 0.0, 0.3),
        (True, "0010011", 0.3, 0.6),  # goes on as often as not
    ],
)
def test_whose_the_first_words_are_is_told_by_their_print_and_by_the_turns(
    unclear: bool, turns: str, least: float, most: float
) -> None:
    """The first words count for no voice themselves, or they would be near their own."""
    labels = np.repeat([int(voice) for voice in turns], 2)
    prints = np.eye(192, dtype=np.float32)[labels]
    if unclear:
        prints[:2, :2] = 0.5**0.5
    begin_s = np.arange(14) + 0.5 * np.repeat(np.arange(7), 2)

    def whole(groups: BoolArray) -> FloatArray:
        means = groups.astype(np.float32) @ prints
        return means / np.maximum(np.linalg.norm(means, axis=1, keepdims=True), 1e-9)

    opening = find_opening(labels, Rhythm(begin_s, begin_s + 1, np.zeros(14, np.int64), 0.0), whole)
    assert (opening.end_s, opening.other) == (2.0, 1)
    assert least < opening.doubt < most


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


def test_voices_near_each_other_are_told_apart_when_their_telephones_differ(
    data_dir: Path, models: SpeechModels
) -> None:
    """18 s of speech of two men: their division was in doubt while only voices, not lines, were known."""
    path = data_dir / "calls" / "harper-valley" / "mono" / "0002f70f7386445b.wav"
    found = diarize(soundfile.read(path, dtype="float32")[0][None], RATE_HZ, models=models)
    assert len(found.speakers) == 2
    assert Quality.MIXED_VOICES not in found.quality

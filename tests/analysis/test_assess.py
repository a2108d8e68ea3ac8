"""Every voice that may be the caller's is assessed; what is not known has no number."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from callanalytics.analysis.assess import CallAssessment, assess, vote_segments
from callanalytics.audio.noise_reduction import denoise
from callanalytics.config import (
    AudioSettings,
    EmotionSettings,
    FrustrationSettings,
    RuleSettings,
    SegmentSettings,
    Settings,
)
from callanalytics.diarize.quality import Quality
from callanalytics.diarize.roles import SURE_OF_THE_AGENT
from callanalytics.records import (
    Audio,
    ChannelLayout,
    Diarization,
    Features,
    Role,
    RoleSource,
    Segment,
    Turn,
)
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.vote import Votes
from ensemble.labels import SHARED_SIX

SEGMENT_S = 4.0
CALM, ANGRY = "calm", "angry"


def assessed(
    roles: dict[str, Role],
    said: list[tuple[str, str]],
    *,
    confidence: float = 1.0,
    settings: Settings | None = None,
    abstained: dict[str, str] | None = None,
    disgusted: bool = False,
) -> CallAssessment:
    """A call of segments of 4 s, one after another, of (speaker, mood).

    Angry ones are 12 dB louder, 6 semitones higher and taken for anger, or disgust. `abstained`: speaker ->
    reason.
    """
    speakers = [who for who, _ in said]
    angry = np.array([mood == ANGRY for _, mood in said])
    starts = np.arange(len(said)) * (SEGMENT_S + 1)
    segments = [
        Segment(i, who, roles[who], 0, float(at), float(at) + SEGMENT_S, 0.0)
        for i, (who, at) in enumerate(zip(speakers, starts, strict=True))
    ]
    spoken = Diarization(
        turns=tuple(Turn(s.speaker, 0, s.start_s, s.end_s) for s in segments),
        roles=roles,
        layout=ChannelLayout.MONO,
        role_source=RoleSource.INFERRED if Role.CALLER in roles.values() else RoleSource.NONE,
        role_confidence=confidence,
    )
    neutral, anger = (SHARED_SIX.index(name) for name in ("neutral", "disgust" if disgusted else "anger"))
    mean = np.full((len(said), len(SHARED_SIX)), 0.02, dtype=np.float32)
    mean[np.arange(len(said)), np.where(angry, anger, neutral)] = 0.9
    reasons = tuple((abstained or {}).get(who) for who in speakers)
    labelled = np.array([reason is None for reason in reasons])
    votes = Votes(
        labels=SHARED_SIX,
        member_names=("cnn",),
        probabilities=mean[None],
        mean_probabilities=mean,
        emotion_index=np.where(labelled, mean.argmax(axis=1), -1),
        top_index=mean.argmax(axis=1),
        confidence=mean.max(axis=1),
        agreement=np.ones(len(said), dtype=np.float32),
        tie_broken=np.zeros(len(said), dtype=bool),
        abstain_reason=reasons,
    )
    described = np.stack([np.where(angry, -16.0, -28.0), np.where(angry, 170.0, 120.0)], axis=1)
    features = Features(("loudness_db", "f0_median_hz"), described.astype(np.float32))
    duration_s = float(starts[-1]) + SEGMENT_S + 1
    return assess(duration_s, spoken, segments, features, votes, settings or Settings())


def names(found: CallAssessment, role: Role) -> set[str]:
    return {m.name for m in found.measures if m.role is role and m.value is not None}


def turns_angry(who: str) -> list[tuple[str, str]]:
    """Six calm segments, then six angry ones."""
    return [(who, CALM)] * 6 + [(who, ANGRY)] * 6


def test_a_voice_of_unknown_role_is_scored_and_flagged() -> None:
    found = assessed({"v": Role.UNKNOWN}, turns_angry("v"), confidence=0.0)
    assert found.curve.voice == "v"
    assert found.curve.score is not None
    assert found.curve.score > 0.5
    assert found.flagged
    first, *_ = [e.reason for e in found.escalations if e.rule == "frustrated"]
    assert first.startswith("one of the voices: sounds frustrated, ")
    assert found.escalations[0].evidence
    assert {"talk_s", "anger_share", "frustration_peak", "loudness_rise_db"} <= names(found, Role.UNKNOWN)


def test_a_side_that_is_not_known_has_no_measures() -> None:
    found = assessed({"v": Role.UNKNOWN}, turns_angry("v"), confidence=0.0)
    assert names(found, Role.CALLER) == names(found, Role.AGENT) == set()
    assert not {m.name for m in found.measures} & {"overtalk_s", "overtalk_share", "interruptions"}
    assert {"silence_s", "longest_silence_s"} <= {m.name for m in found.measures if m.role is None}


def test_of_several_voices_the_most_frustrated_is_the_score() -> None:
    roles = {"v": Role.UNKNOWN, "w": Role.UNKNOWN}
    calm = [("v", CALM)] * 8
    alone = assessed({"w": Role.UNKNOWN}, turns_angry("w"), confidence=0.0)
    both = assessed(roles, [*calm, *turns_angry("w")], confidence=0.0)
    assert both.curve.voice == "w"
    assert both.curve.score == alone.curve.score


def test_voices_that_are_equally_calm_are_ranked_by_the_length_of_their_speech() -> None:
    roles = {"v": Role.UNKNOWN, "w": Role.UNKNOWN}
    found = assessed(roles, [("v", CALM)] * 3 + [("w", CALM)] * 5, confidence=0.0)
    assert found.curve.voice == "w"
    assert found.curve.score == pytest.approx(0.0, abs=0.01)


def test_a_caller_loses_no_flag_to_a_voice_with_a_higher_score() -> None:
    roles = {"a": Role.AGENT, "c": Role.CALLER, "v": Role.UNKNOWN}
    rule = RuleSettings(
        name="frustrated",
        measure="frustration_peak",
        at_least=0.3,
        min_evidence_s=30.0,
        reason="caller sounds frustrated",
    )
    settings = Settings(rule=(rule,))
    caller = [("c", CALM)] * 6 + [("c", ANGRY)] * 2 + [("c", CALM)] * 2
    short = [("v", CALM)] * 3 + [("v", ANGRY)] * 3
    found = assessed(roles, [*caller, *short, ("a", CALM)], settings=settings)
    assert found.curve.voice == "v"
    assert found.flagged
    assert [e.reason for e in found.escalations] == ["caller sounds frustrated"]
    alone = assessed(roles, [*caller, ("v", CALM), ("a", CALM)], settings=settings)
    assert [e.value for e in found.escalations] == [e.value for e in alone.escalations]


@pytest.mark.parametrize(
    ("confidence", "voice"), [(SURE_OF_THE_AGENT - 0.01, "a"), (SURE_OF_THE_AGENT, None)]
)
def test_an_agent_is_scored_only_where_it_is_not_sure_who_is_the_agent(
    confidence: float, voice: str | None
) -> None:
    roles = {"a": Role.AGENT, "c": Role.CALLER}
    found = assessed(roles, [*turns_angry("a"), *[("c", CALM)] * 6], confidence=confidence)
    assert found.curve.voice == voice
    assert found.flagged == (voice is not None)
    assert "frustration_peak" not in names(found, Role.AGENT)
    assert ("frustration_peak" in names(found, Role.UNKNOWN)) == (voice is not None)


def test_a_call_without_a_voice_that_may_be_the_callers_has_no_score() -> None:
    found = assessed({"a": Role.AGENT}, turns_angry("a"))
    assert found.curve.score is None
    assert found.curve.peak_s is None
    assert not found.flagged
    assert names(found, Role.CALLER) == names(found, Role.UNKNOWN) == set()
    assert "talk_s" in names(found, Role.AGENT)


def test_a_voice_of_which_nothing_could_be_classified_has_no_score() -> None:
    said = [*turns_angry("c"), *[("a", CALM)] * 3]
    roles = {"a": Role.AGENT, "c": Role.CALLER}
    found = assessed(roles, said, abstained={"c": "not_speech"})
    assert found.curve.score is None
    assert not {"frustration", "frustration_peak"} & names(found, Role.CALLER)
    assert "loudness_rise_db" in names(found, Role.CALLER)


def test_a_voice_that_settings_keep_from_the_ensemble_is_not_assessed() -> None:
    only_callers = Settings(emotion=EmotionSettings(roles=("caller",)))
    found = assessed(
        {"v": Role.UNKNOWN},
        turns_angry("v"),
        confidence=0.0,
        settings=only_callers,
        abstained={"v": "role_excluded"},
    )
    assert found.curve.score is None
    assert not found.flagged
    assert "talk_s" in names(found, Role.UNKNOWN)
    assert "loudness_rise_db" not in names(found, Role.UNKNOWN)


# What the ensemble is shown ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def shipped() -> Ensemble:
    return load_ensemble()


@pytest.fixture(scope="module")
def sound() -> Audio:
    """Two channels of 24 s of buzz in syllables, each of its own pitch and colour."""
    rng = np.random.default_rng(7)
    at_s = np.arange(24 * 8000) / 8000
    level = 0.1 * rng.uniform(0.2, 1, 24 * 5).repeat(1600)
    channels = [
        level * (np.sign(np.sin(2 * np.pi * hz * at_s)) + rng.normal(0, 0.2, at_s.size)) for hz in (110, 190)
    ]
    return Audio(np.stack(channels).astype(np.float32), 8000, 8000, "pcm_s16le", "wav", 0.0)


def pieces(*speakers: str, overlap: float = 0.0, **roles: Role) -> list[Segment]:
    """Segments of 3 s, one after another; "a" speaks on channel 0, everybody else on channel 1."""
    return [
        Segment(i, who, roles.get(who, Role.CALLER), int(who != "a"), 4.0 * i, 4.0 * i + 3, overlap)
        for i, who in enumerate(speakers)
    ]


def spoken(
    segments: list[Segment],
    layout: ChannelLayout = ChannelLayout.STEREO,
    confidence: float = 1.0,
    quality: tuple[str, ...] = (),
) -> Diarization:
    """Who speaks when, as the segments say."""
    turns = tuple(Turn(s.speaker, s.channel, s.start_s, s.end_s) for s in segments)
    roles = {s.speaker: s.role for s in segments}
    return Diarization(turns, roles, layout, RoleSource.INFERRED, confidence, quality=quality)


@pytest.mark.parametrize(
    ("confidence", "quality", "agent_has_all"),
    [
        (SURE_OF_THE_AGENT, (), False),
        (SURE_OF_THE_AGENT - 0.01, (), True),
        (1.0, (Quality.MIXED_VOICES,), True),
    ],
)
def test_the_voice_network_is_asked_of_every_voice_that_may_be_the_callers(
    sound: Audio, shipped: Ensemble, confidence: float, quality: tuple[str, ...], agent_has_all: bool
) -> None:
    """Caller, third voices and an agent in doubt have the vote of all; a sure agent that of the others."""
    segments = pieces("a", "c", "a", "x", "c", "x", a=Role.AGENT, x=Role.UNKNOWN)
    speech = spoken(segments, confidence=confidence, quality=quality)
    votes = vote_segments(sound, segments, speech, Settings(), shipped)
    waves = [sound.samples[s.channel, round(s.start_s * 8000) : round(s.end_s * 8000)] for s in segments]
    share, speakers = Settings().emotion.neutral_share, [s.speaker for s in segments]
    whole = shipped.vote(waves, speakers, neutral_share=share)
    network = shipped.member_names.index("campplus")
    asked = votes.probabilities[network].any(axis=1)
    assert asked.tolist() == [agent_has_all, True, agent_has_all, True, True, True]
    np.testing.assert_allclose(votes.probabilities[:, asked], whole.probabilities[:, asked], atol=1e-6)
    for name in ("mean_probabilities", "confidence", "agreement", "top_index", "emotion_index", "tie_broken"):
        np.testing.assert_allclose(getattr(votes, name)[asked], getattr(whole, name)[asked], atol=1e-6)
    np.testing.assert_allclose(votes.mean_probabilities.sum(axis=1), 1, atol=1e-5)
    n_trained = len(shipped.member_names) - 1
    shares = votes.agreement[~asked] * n_trained
    np.testing.assert_allclose(shares, shares.round(), atol=1e-5)


def test_the_segments_of_a_voice_are_voted_on_together(sound: Audio, shipped: Ensemble) -> None:
    """As the ensemble votes when it is told whose they are, and not as on strangers' segments."""
    segments = pieces("a", "c", "a", "c", "c", "a", a=Role.AGENT)
    votes = vote_segments(sound, segments, spoken(segments), Settings(), shipped)
    waves = [sound.samples[s.channel, round(s.start_s * 8000) : round(s.end_s * 8000)] for s in segments]
    share = Settings().emotion.neutral_share
    of_callers = [s.role is not Role.AGENT for s in segments]
    told = shipped.vote(waves, [s.speaker for s in segments], neutral_share=share, by_all=of_callers)
    strangers = shipped.vote(waves, neutral_share=share)
    np.testing.assert_allclose(votes.probabilities, told.probabilities, atol=1e-6)
    np.testing.assert_allclose(votes.mean_probabilities, told.mean_probabilities, atol=1e-6)
    assert votes.abstain_reason == told.abstain_reason
    assert np.abs(told.probabilities - strangers.probabilities).max() > 0.05


@pytest.mark.parametrize(("overlap", "reason"), [(0.29, None), (0.3, None), (0.31, "overtalk")])
def test_overtalk_is_no_voice_where_both_are_on_one_channel(
    sound: Audio, shipped: Ensemble, overlap: float, reason: str | None
) -> None:
    settings = Settings(
        segments=SegmentSettings(max_overlap_share=0.3), emotion=EmotionSettings(abstain=False)
    )
    segments = pieces("c", "c", overlap=overlap)
    for layout, expected in ((ChannelLayout.MONO, reason), (ChannelLayout.STEREO, None)):
        votes = vote_segments(sound, segments, spoken(segments, layout), settings, shipped)
        assert votes.abstain_reason == (expected, expected)
        assert (votes.emotion(0) is None) == (expected is not None)
        assert votes.top_index.min() >= 0, "the opinion is kept"


class Listening:
    """The shipped ensemble, and what it was asked to vote on."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble, self.waveforms, self.options = ensemble, [], {}

    def vote(self, waveforms: list[np.ndarray], speakers: list[str], **options: object) -> Votes:
        self.waveforms, self.options = waveforms, options
        return self.ensemble.vote(waveforms, speakers, **options)


def test_a_role_that_is_left_out_is_never_shown_to_the_ensemble(sound: Audio, shipped: Ensemble) -> None:
    """EU AI Act, Art. 5(1)(f): not even where nothing of its answer would be kept."""
    shown = Listening(shipped)
    settings = Settings(emotion=EmotionSettings(roles=("caller",)))
    segments = pieces("a", "c", "a", a=Role.AGENT)
    vote_segments(sound, segments, spoken(segments), settings, shown)
    assert [len(wave) for wave in shown.waveforms] == [0, 3 * 8000, 0]


def test_the_ensemble_is_asked_as_the_settings_say(sound: Audio, shipped: Ensemble) -> None:
    for abstain, neutral_share in ((True, 0.8), (False, 0.5)):
        shown = Listening(shipped)
        emotion = EmotionSettings(abstain=abstain, neutral_share=neutral_share)
        settings = Settings(emotion=emotion)
        segments = pieces("c", "c")
        votes = vote_segments(sound, segments, spoken(segments), settings, shown)
        assert shown.options == {"abstain": abstain, "neutral_share": neutral_share, "by_all": [True, True]}
        told = shipped.vote(shown.waveforms, ["c", "c"], abstain=abstain, neutral_share=neutral_share)
        np.testing.assert_array_equal(votes.agreement, told.agreement)
        np.testing.assert_array_equal(votes.confidence, told.confidence)


def test_with_denoise_the_ensemble_gets_less_noise(sound: Audio, shipped: Ensemble) -> None:
    shown, plain = Listening(shipped), Listening(shipped)
    noisy = replace(
        sound,
        samples=sound.samples
        + np.float32(0.01) * np.random.default_rng(1).standard_normal(sound.samples.shape).astype(np.float32),
    )
    for ensemble, on in ((shown, True), (plain, False)):
        settings = Settings(audio=AudioSettings(denoise=on))
        segments = pieces("a", "c", a=Role.AGENT)
        vote_segments(noisy, segments, spoken(segments), settings, ensemble)
    expected = denoise(noisy.samples, 8000)
    np.testing.assert_array_equal(shown.waveforms[1], expected[1, 4 * 8000 : 7 * 8000])
    np.testing.assert_array_equal(plain.waveforms[1], noisy.samples[1, 4 * 8000 : 7 * 8000])


def test_disgust_is_evidence_too_and_what_was_not_classified_is_none() -> None:
    """Half of it, by the settings; and a segment on which the ensemble could say nothing is calm."""

    def scored(**weights: float) -> float:
        settings = Settings(frustration=FrustrationSettings(**weights))
        score = assessed({"c": Role.CALLER}, said, settings=settings, disgusted=True).curve.score
        assert score is not None
        return score

    said = turns_angry("c")
    assert scored(disgust_weight=0.0) < 0.1 < scored(disgust_weight=0.5) < scored(disgust_weight=1.0)
    silent = assessed({"c": Role.CALLER, "v": Role.AGENT}, said, abstained={"c": "not_speech"})
    assert silent.curve.score is None
    assert silent.curve.level.max() == 0


def test_a_rule_about_the_agent_is_not_asked_of_a_voice_taken_for_the_caller() -> None:
    rule = RuleSettings(name="busy", measure="talk_s", role="agent", at_least=1.0, reason="talks")
    found = assessed(
        {"v": Role.UNKNOWN, "w": Role.UNKNOWN},
        turns_angry("v"),
        confidence=0.0,
        settings=Settings(rule=(rule,)),
    )
    assert found.escalations == ()


def test_a_rule_is_shown_at_the_most_frustrated_voice_that_fulfils_it() -> None:
    """Both fulfil it; the moments are those of the one that has the score."""
    rule = RuleSettings(name="angry", measure="angry_s", at_least=4.0, reason="angry")
    said = [("v", CALM)] * 9 + [("v", ANGRY)] + [("w", CALM)] * 6 + [("w", ANGRY)] * 6
    found = assessed(
        {"v": Role.UNKNOWN, "w": Role.UNKNOWN}, said, confidence=0.0, settings=Settings(rule=(rule,))
    )
    assert found.curve.voice == "w"
    (escalation,) = found.escalations
    assert escalation.value == 6 * SEGMENT_S
    assert all(evidence.start_s >= 16 * (SEGMENT_S + 1) for evidence in escalation.evidence)


def test_of_a_role_that_is_left_out_there_is_no_opinion(sound: Audio, shipped: Ensemble) -> None:
    settings = Settings(emotion=EmotionSettings(roles=("caller",)))
    segments = pieces("a", "c", "c", a=Role.AGENT)
    votes = vote_segments(sound, segments, spoken(segments), settings, shipped)
    assert votes.abstain_reason[0] == "role_excluded"
    assert votes.emotion_index[0] == votes.top_index[0] == -1
    assert np.isnan(votes.confidence[0])
    assert np.isnan(votes.agreement[0])
    assert not votes.probabilities[:, 0].any()
    assert not votes.mean_probabilities[0].any()
    assert votes.top_index[1] >= 0
    assert np.isfinite(votes.confidence[1:]).all()


def test_where_the_agents_voice_is_taken_for_the_callers_the_other_one_is_the_agent() -> None:
    """Interruptions are known only where both sides are; of the caller nothing could be classified."""
    rule = RuleSettings(
        name="talks over",
        measure="interruptions",
        at_least=0.0,
        min_evidence_s=4.0,
        reason="talks over",
    )
    found = assessed(
        {"a": Role.AGENT, "c": Role.CALLER},
        [("a", CALM), ("c", CALM)] * 4,
        confidence=SURE_OF_THE_AGENT - 0.01,
        settings=Settings(rule=(rule,)),
        abstained={"c": "not_speech"},
    )
    assert [(e.rule, e.value) for e in found.escalations] == [("talks over", 0.0)]

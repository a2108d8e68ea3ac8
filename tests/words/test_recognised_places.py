"""What a model is asked and where its words are put; a stand-in says them, so no model is needed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
from short_calls import short_calls

from callanalytics.analysis.assess import CallAssessment
from callanalytics.analysis.frustration import Curve
from callanalytics.analysis.words import CallWords
from callanalytics.analysis.words.recogniser import RATE_HZ, Recogniser, load_model
from callanalytics.config import RuleSettings, Settings, WordsSettings
from callanalytics.errors import UsageError
from callanalytics.records import (
    Audio,
    ChannelLayout,
    Diarization,
    Escalation,
    Evidence,
    FloatArray,
    Role,
    RoleSource,
    Turn,
)
from ensemble.model_errors import ModelIncompatible, ModelMissing
from jobs.cli.single_file import analyze_file
from jobs.night import RunOptions
from jobs.night.run import run_night

CALL_HZ = 8000
NOBODY = np.zeros(0, np.float32)


def word(text: str, start_s: float, end_s: float, probability: float = 0.75) -> Any:
    return SimpleNamespace(word=text, start=start_s, end=end_s, probability=probability)


def segment(*words: Any, silent: float = 0.0, sure: float = -0.2, packed: float = 1.0) -> Any:
    return SimpleNamespace(
        words=list(words) or None,
        text="".join(each.word for each in words),
        no_speech_prob=silent,
        avg_logprob=sure,
        compression_ratio=packed,
    )


class Model:
    """Says what it is told for each block in turn, and keeps what it was asked."""

    says: ClassVar[list[list[Any]]] = []
    made: ClassVar[list[dict[str, Any]]] = []
    asked: ClassVar[list[tuple[FloatArray, dict[str, Any]]]] = []

    def __init__(self, folder: str, **options: Any) -> None:
        if folder.endswith("damaged"):
            raise RuntimeError("bad magic")
        Model.made.append({"folder": folder, **options})

    def transcribe(self, sound: FloatArray, **options: Any) -> tuple[list[Any], Any]:
        Model.asked.append((sound, options))
        if not Model.says:
            raise RuntimeError("out of memory")  # CTranslate2's
        return Model.says[len(Model.asked) - 1], SimpleNamespace(language=options["language"] or "de")

    def encode(self, features: FloatArray) -> FloatArray:
        return features


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    stand_in = ModuleType("faster_whisper")
    stand_in.WhisperModel = Model  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "faster_whisper", stand_in)
    for kept in ("says", "made", "asked"):
        monkeypatch.setattr(Model, kept, [])
    return model_in(tmp_path / "model")


def model_in(folder: Path) -> Path:
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        (folder / name).write_text("{}")
    (folder / "model.bin").write_bytes(b"\6\0\0\0\x0c\0WhisperSpec\0more")
    return folder


def call_of(*turns: tuple[int, float, float], channels: int = 2) -> tuple[Audio, Diarization]:
    """A call whose sample i of channel c is i / 1e6 + c / 2, with turns (channel, start, end in seconds)."""
    n = round((turns[-1][2] + 2) * CALL_HZ)
    samples = (np.arange(n) / 1e6 + np.arange(channels)[:, None] / 2).astype(np.float32)
    spoken = Diarization(
        tuple(Turn(f"speaker_{channel}", channel, start_s, end_s) for channel, start_s, end_s in turns),
        {"speaker_0": Role.AGENT, "speaker_1": Role.CALLER},
        ChannelLayout.STEREO if channels == 2 else ChannelLayout.MONO,
        RoleSource.SIDECAR,
        1.0,
    )
    return Audio(samples, CALL_HZ, CALL_HZ, "pcm", "wav", 0.0), spoken


def judged(*rules: tuple[float, tuple[tuple[float, float], ...]], flagged: bool = False) -> CallAssessment:
    """Fulfilled rules of such weights, each with its moments."""
    found = tuple(
        Escalation(f"r{n}", weight, 1.0, 0.5, "x", tuple(Evidence(a, b, "x") for a, b in moments))
        for n, (weight, moments) in enumerate(rules)
    )
    return CallAssessment(Curve(NOBODY, NOBODY, None, NOBODY, NOBODY), (), found, flagged)


def settings(what: str = "all", **more: Any) -> Settings:
    return Settings(words=WordsSettings.model_validate({"model": "m", "what": what, **more}))


def test_a_stretch_of_speech_is_sent_with_a_quarter_of_a_second_around_it(folder: Path) -> None:
    audio, spoken = call_of((0, 1.0, 3.0), (1, 3.5, 5.0))
    Model.says += [[segment(word(" Hello", 0.3, 0.8), word(" there.", 0.9, 1.4, 0.5)),
                    segment(word(" Yes", 3.4, 3.9))]]  # fmt: skip
    found = Recogniser(folder).words_of(audio, spoken, judged(), settings())
    ((sound, options),) = Model.asked
    assert Model.made == [
        {"folder": str(folder), "device": "cpu", "compute_type": "int8", "cpu_threads": 1,
         "local_files_only": True}
    ]  # fmt: skip
    # 2.5 s, 0.6 s of silence and 2 s
    assert (len(sound), sound.dtype) == (round(5.1 * RATE_HZ), np.float32)
    assert sound[RATE_HZ] == pytest.approx((0.75 + 1.0) * CALL_HZ / 1e6, abs=1e-4)
    assert np.abs(sound[round(2.6 * RATE_HZ) : round(3.0 * RATE_HZ)]).max() < 1e-2
    assert sound[4 * RATE_HZ] == pytest.approx(0.5 + (3.25 + 0.9) * CALL_HZ / 1e6, abs=1e-4)
    assert options == {
        **{"language": None, "beam_size": 1, "temperature": 0.0, "condition_on_previous_text": False},
        **{"word_timestamps": True, "no_speech_threshold": 0.6, "log_prob_threshold": -1.0},
        "compression_ratio_threshold": 2.4,
    }
    assert (found.whole, found.note) == (True, None)
    first, second = found.utterances
    assert (first.speaker, first.text, first.word_confidence) == ("speaker_0", "Hello there.", (0.75, 0.5))
    assert first.word_start_s == pytest.approx((1.05, 1.65))
    assert (first.start_s, first.end_s) == pytest.approx((1.05, 2.15))
    assert (second.speaker, second.role, second.text) == ("speaker_1", Role.CALLER, "Yes")
    assert second.start_s == pytest.approx(3.25 + 3.4 - 3.1)


def test_what_the_model_does_not_believe_itself_is_left_out(folder: Path) -> None:
    audio, spoken = call_of((0, 1.0, 9.0))
    said = [f" w{letter}" for letter in "abcdefghijkl"]
    at = iter(range(100))

    def one(**doubt: float) -> Any:
        n = next(at)
        return segment(word(said[n], 0.5 + 0.5 * n, 0.9 + 0.5 * n), **doubt)

    again = [word(" no", 6 + 0.1 * n, 6.05 + 0.1 * n) for n in range(6)]
    Model.says += [[
        one(), one(silent=0.61, sure=-0.51), one(silent=0.6, sure=-0.51), one(silent=0.61, sure=-0.5),
        one(sure=-1.01), one(sure=-1.0), one(packed=2.41), one(packed=2.4), segment(*again), segment(),
        segment(word("  ", 7, 7.1)),
    ]]  # fmt: skip
    found = Recogniser(folder).words_of(audio, spoken, judged(), settings())
    text = " ".join(u.text for u in found.utterances)
    assert text.split() == ["wa", "wc", "wd", "wf", "wh"]


def test_words_stay_within_the_speech_they_belong_to(folder: Path) -> None:
    """A block of 0.75 to 3.25 s and, 0.6 s later, 9.75 to 12.25 s of the call: 0 to 2.5 and 3.1 to 5.6 s."""
    audio, spoken = call_of((0, 1.0, 3.0), (0, 10.0, 12.0))
    Model.says += [[
        # ends in silence; begins in it after no end of a sentence; begins in it after one
        segment(word(" ask", 2.2, 2.7), word(" bit", 2.6, 2.9), word(" cut.", 2.3, 2.4)),
        segment(word(" dim.", 0.5, 0.9), word(" eat", 2.6, 2.9), word(" fog", 4.0, 7.0)),
        segment(word(" late", 6.0, 6.2)),
    ]]  # fmt: skip
    found = Recogniser(folder).words_of(audio, spoken, judged(), settings())
    at_s = {w: s for u in found.utterances for w, s in zip(u.words, u.word_start_s, strict=True)}
    expected = {"ask": 2.95, "bit": 3.25, "cut.": 3.05, "dim.": 1.25, "eat": 9.75, "fog": 10.65}
    assert at_s == pytest.approx({**expected, "late": 12.25})
    assert max(u.end_s for u in found.utterances) == pytest.approx(12.25)


def test_long_speech_is_sent_in_blocks_of_28_s_and_in_the_language_first_heard(folder: Path) -> None:
    audio, spoken = call_of((0, 1.0, 61.0), channels=1)
    Model.says += [[segment(word(" a", 1, 2))], [segment(word(" b", 1, 2))], [segment(word(" c", 1, 2))]]
    found = Recogniser(folder).words_of(audio, spoken, judged(), settings())
    assert [len(sound) / RATE_HZ for sound, _ in Model.asked] == pytest.approx([28.0, 28.0, 4.5], abs=1e-3)
    assert [options["language"] for _, options in Model.asked] == [None, "de", "de"]
    assert [(u.text, u.start_s) for u in found.utterances] == [
        (text, pytest.approx(0.75 + 28 * n + 1)) for n, text in enumerate("abc")
    ]
    Model.asked.clear()
    Recogniser(folder).words_of(audio, spoken, judged(), settings(language="en"))
    assert [options["language"] for _, options in Model.asked] == ["en"] * 3


@pytest.mark.parametrize("what", ["flagged", "moments", "all"])
@pytest.mark.parametrize(("share", "flagged"), [(0.74, False), (0.75, False), (0.0, True)])
def test_calls_are_asked_for_that_are_flagged_or_nearly(
    folder: Path, what: str, share: float, flagged: bool
) -> None:
    audio, spoken = call_of((0, 1.0, 3.0))
    Model.says += [[segment(word(" hm", 0.5, 1))]]
    weight = share * Settings().frustration.flag_weight
    assessment = judged((weight, ((1.5, 2.5),)), flagged=flagged)
    found = Recogniser(folder).words_of(audio, spoken, assessment, settings(what))
    if what != "all" and share == 0.74:
        assert (found, Model.asked, Model.made) == (CallWords(), [], [])
    else:
        assert [u.text for u in found.utterances] == ["hm"]
        assert (found.whole, found.note) == (what != "moments", "only_moments" if what == "moments" else None)


def test_of_moments_only_what_is_said_around_them_is_sent(folder: Path) -> None:
    wanted = settings("moments")
    context_s = wanted.report.clip_context_s
    audio, spoken = call_of((0, 1.0, 30.0), (1, 40.0, 41.0), (0, 44.0, 60.0), (1, 70.0, 90.0))
    moments = ((20.0, 21.0), (80.0, 82.0))
    Model.says += [[segment()], [segment()]]
    found = Recogniser(folder).words_of(audio, spoken, judged((1, moments), flagged=True), wanted)
    assert (found.utterances, found.whole, found.note) == ((), False, "only_moments")
    ((sound, _),) = Model.asked
    assert len(sound) / RATE_HZ == pytest.approx(1 + 2 + 4 * context_s + 0.6, abs=1e-3)
    by_time = (20.5 - context_s) * CALL_HZ / 1e6
    assert sound[RATE_HZ // 2] == pytest.approx(by_time, abs=1e-3), "the agent's comes first"
    at_s = 1 + 2 * context_s + 0.6 + 0.5
    assert sound[round(at_s * RATE_HZ)] == pytest.approx(0.5 + (80.5 - context_s) * CALL_HZ / 1e6, abs=1e-3)


def test_what_is_left_when_the_time_is_used_up_is_not_sent(folder: Path) -> None:
    audio, spoken = call_of((0, 1.0, 61.0))
    found = Recogniser(folder).words_of(audio, spoken, judged(), settings(time_limit_s=1e-9))
    assert (found.utterances, found.whole, found.note, Model.asked) == ((), False, "out_of_time", [])


def test_a_block_is_encoded_with_three_seconds_of_what_follows_it(folder: Path) -> None:
    model = Recogniser(folder)
    model.load()
    assert len(Model.made) == 1
    loaded = load_model(folder, n_threads=3)
    assert Model.made[1]["cpu_threads"] == 3
    features = np.zeros((80, 3000), np.float32)
    features[5, 400] = 1
    assert loaded.encode(features).shape == (80, 701)
    assert loaded.encode(np.zeros((80, 3000), np.float32)).shape == (80, 3000)


@pytest.mark.parametrize(
    ("file", "content", "problem", "says"),
    [
        ("tokenizer.json", None, ModelMissing, "tokenizer.json is missing"),
        ("vocabulary.txt", None, ModelMissing, "vocabulary.json is missing"),
        ("model.bin", b"\6\0\0\0\x0c\0TransfoSpec\0", ModelIncompatible, "not a Whisper model"),
        ("model.bin", b"\6\0\0\0\x0d\0WhisperSpec\0", ModelIncompatible, "not a Whisper model"),
        ("model.bin", b"\6\0", ModelIncompatible, "not a Whisper model"),
    ],
)
def test_a_folder_that_holds_no_model_is_refused(
    folder: Path, file: str, content: bytes | None, problem: type[Exception], says: str
) -> None:
    if content is None:
        (folder / file).unlink()
    else:
        (folder / file).write_bytes(content)
    with pytest.raises(problem, match=says):
        Recogniser(folder).load()
    assert Model.made == []


def test_a_model_that_cannot_be_loaded_is_said(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ModelMissing, match="no such folder"):
        Recogniser(tmp_path / "nothing").load()
    damaged = model_in(tmp_path / "damaged")
    with pytest.raises(ModelIncompatible, match=r"cannot be loaded \(bad magic\)"):
        Recogniser(damaged).load()
    monkeypatch.setitem(sys.modules, "faster_whisper", None)
    with pytest.raises(UsageError, match=r"callanalytics\[words\]"):
        Recogniser(folder).load()


@pytest.fixture
def call(tmp_path: Path) -> Path:
    return short_calls(tmp_path / "calls", 1) / "call-000.wav"


def test_words_of_a_model_belong_to_the_call_and_rules_see_them(folder: Path, call: Path) -> None:
    rule = {"name": "cancels", "measure": "phrase", "role": "any", "phrases": ("cancel*",), "at_least": 1}
    wanted = settings(model=str(folder)).model_copy(
        update={"rule": (RuleSettings.model_validate(rule | {"reason": "wants to cancel"}),)}
    )
    Model.says += [[segment(word(" Please", 0.3, 0.8), word(" cancel.", 0.9, 1.4))]] * 2
    found = analyze_file([call], wanted)
    assert {said.text for said in found.words.utterances} == {"Please cancel."}
    assert found.stage_wall_s["words"] > 0
    ((reason,),) = [[each.reason for each in found.assessment.escalations]]
    assert reason.startswith("wants to cancel: “")


def test_a_model_that_fails_costs_the_words_and_not_the_call(folder: Path, call: Path) -> None:
    found = analyze_file([call], settings(model=str(folder)))
    assert found.segments
    assert (found.words.utterances, found.words.note) == ((), "not_recognised")


@pytest.mark.parametrize("kind", ["local", "ray"])
def test_a_night_whose_model_is_not_there_ends_before_it_begins(kind: str, folder: Path, call: Path) -> None:
    """On a cluster, too: the driver looks before anybody works."""
    options = RunOptions(since="2000-01-01", inputs=(call.parent,), out=call.parent / "out", workers=1)
    wanted = settings(model=str(folder / "nothing"))
    engine = wanted.engine.model_copy(update={"kind": kind})
    with pytest.raises(ModelMissing, match="no such folder"):
        run_night(wanted.model_copy(update={"engine": engine}), options)
    assert not (call.parent / "out").exists()

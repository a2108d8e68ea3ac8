from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf
from click.testing import CliRunner

from ensemble.baselines.explore import (
    RATE_HZ,
    coloured,
    counts_of,
    explore_corpus,
    explore_file,
    waveform_path,
)
from ensemble.corpora import Clip, Corpus
from ensemble.model_errors import CorpusError


def tone(path: Path, seconds: float = 1.0, pitch_hz: float = 300.0) -> Path:
    t = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    sf.write(path, 0.4 * np.sin(2 * np.pi * pitch_hz * t), RATE_HZ)
    return path


def test_a_picture_is_a_png_with_low_values_dark_and_the_first_row_below() -> None:
    import av

    url = coloured(np.array([[0.0, 0.5, 1.0], [1.0, 1.0, 1.0]], dtype=np.float32), 0.0, 1.0)
    body = base64.b64decode(url.removeprefix("data:image/png;base64,"))
    with av.open(io.BytesIO(body), mode="r", format="png_pipe") as file:
        image = next(file.decode(video=0)).to_ndarray(format="rgb24")
    assert image.shape == (2, 3, 3)
    assert tuple(image[1, 0]) == (0, 0, 4)
    assert tuple(image[0, 0]) == tuple(image[1, 2]) == (252, 255, 164)


def test_a_waveform_reaches_from_its_lowest_to_its_highest_sample() -> None:
    wave = np.zeros(6000, dtype=np.float32)
    wave[3000], wave[3001] = 1.0, -0.5
    path = waveform_path(wave)
    heights = [float(point.split(",")[1]) for point in path.strip("MZ").split("L")]
    assert min(heights) == 0.0
    assert max(heights) == 75.0


@pytest.mark.slow  # a minute of compiling librosa's functions, where nothing else has
def test_a_file_is_shown_with_every_augmentation(tmp_path: Path) -> None:
    ((sound,), heading) = explore_file(tone(tmp_path / "a.wav"))
    titles = " ".join(picture.title for picture in sound.pictures)
    for word in ("Waveform", "Mel spectrogram", "MFCC", "noise", "pitch", "stretch"):
        assert word in titles
    assert "stretch, 1.25 s" in titles  # a fifth slower
    assert heading == "a.wav"


@pytest.mark.usefixtures("librosa_ready")
def test_a_corpus_shows_each_emotion_by_one_speaker_who_has_them_all(tmp_path: Path) -> None:
    clips = tuple(
        Clip(tone(tmp_path / f"{speaker}-{emotion}.wav"), "made", emotion, f"made/{speaker}")
        for speaker, emotions in (("1", ("sad",)), ("2", ("anger", "sad")), ("3", ("fear",)))
        for emotion in emotions
    )
    sounds, _ = explore_corpus(Corpus("made", clips))
    assert [sound.title for sound in sounds] == ["anger, made/2", "fear, made/3", "sad, made/2"]
    assert counts_of(Corpus("made", clips)) == [("anger", 1, 0.5), ("fear", 1, 0.5), ("sad", 2, 1.0)]


def test_too_short_a_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="too short"):
        explore_file(tone(tmp_path / "a.wav", seconds=0.02))


def test_the_page_is_self_contained_and_escapes_names(tmp_path: Path) -> None:
    from jobs.cli.bench_commands import explore

    out = tmp_path / "page.html"
    done = CliRunner().invoke(explore, [str(tone(tmp_path / "<b>x&y.wav")), "--out", str(out)])
    assert done.exit_code == 0, done.output
    text = out.read_text(encoding="utf-8")
    assert "&lt;b&gt;x&amp;y.wav" in text
    assert "<b>" not in text
    assert "<script" not in text
    assert "http" not in text

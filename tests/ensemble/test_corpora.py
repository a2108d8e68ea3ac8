"""Corpora: layouts as shipped, labels, speakers; nothing dropped unseen; no speaker on two sides."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
import soundfile as sf

from ensemble.corpora import (
    CREMA_D_VALIDATION,
    RAVDESS_FOLDS,
    decode_clip,
    keep_emotions,
    read_corpora,
    read_corpus,
    read_manifest,
    speaker_folds,
    split_by_speaker,
    usable_clips,
    without_copies,
)
from ensemble.corpora.speakers import refuse_leak
from ensemble.labels import EMOTIONS, SHARED_SIX
from ensemble.model_errors import CorpusError, LeakError


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    return folder


def facts(corpus):
    return [(c.path.name, c.emotion, c.speaker, c.sex, c.sentence) for c in corpus.clips]


def test_crema_d(tmp_path):
    folder = touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav", "AudioWAV/1001_IEO_NEU_X.wav", "AudioWAV/x.wav")
    (folder / "VideoDemographics.csv").write_text("ActorID,Age,Sex\n1001,51,Male\n")
    (folder / "tabulatedVotes.csv").write_text(
        '"","A","D","F","H","N","S","fileName"\n'
        '"100001",3,0,0,0,1,0,"1001_DFA_ANG_XX"\n"200001",0,9,0,0,0,0,"1001_DFA_ANG_XX"\n'
    )
    corpus = read_corpus(folder)
    assert corpus.name == "crema-d"
    assert facts(corpus) == [
        ("1001_DFA_ANG_XX.wav", "anger", "crema-d/1001", "male", "DFA"),
        ("1001_IEO_NEU_X.wav", "neutral", "crema-d/1001", "male", "IEO"),
    ]
    # the voice-only row, not the face-only one
    assert corpus.clips[0].votes == tuple({"anger": 0.75, "neutral": 0.25}.get(e, 0.0) for e in EMOTIONS)
    assert corpus.clips[1].votes is None
    assert [u.path.name for u in corpus.unusable] == ["x.wav"]


def test_emodb(tmp_path):
    corpus = read_corpus(touch(tmp_path, "wav/03a01Fa.wav", "wav/16b10Lb.wav", "wav/08a05Wc.flac"))
    assert facts(corpus) == [
        ("03a01Fa.wav", "happy", "emodb/03", "male", "a01"),
        ("08a05Wc.flac", "anger", "emodb/08", "female", "a05"),
        ("16b10Lb.wav", "boredom", "emodb/16", "female", "b10"),
    ]


def test_ravdess_leaves_out_song(tmp_path):
    names = [f"Actor_{a:02d}/03-01-{e:02d}-01-02-01-{a:02d}.wav" for a in (1, 2) for e in range(1, 9)]
    corpus = read_corpus(touch(tmp_path, *names, "Actor_01/03-02-01-01-01-01-01.wav"))
    assert len(corpus.clips) == 16
    order = ["neutral", "calm", "happy", "sad", "anger", "fear", "disgust", "surprise"]
    assert [c.emotion for c in corpus.clips[:8]] == order
    assert {c.sex for c in corpus.clips if c.speaker == "ravdess/02"} == {"female"}
    assert [u.reason for u in corpus.unusable] == ["song, not speech"]


def test_tess_and_its_misspelt_file(tmp_path):
    names = ("OAF_angry/OAF_back_angry.wav", "OAF_angry/OA_bite_neutral.wav", "YAF_ps/YAF_yes_ps.wav")
    corpus = read_corpus(touch(tmp_path, *names))
    assert {(c.speaker, c.emotion, c.sentence) for c in corpus.clips} == {
        ("tess/OAF", "anger", "back"),
        ("tess/OAF", "neutral", "bite"),
        ("tess/YAF", "surprise", "yes"),
    }


@pytest.mark.parametrize("names", [("DC/a01.wav", "JE/su15.wav"), ("ALL/DC_a01.wav", "ALL/JE_su15.wav")])
def test_savee_in_both_layouts(tmp_path, names):
    corpus = read_corpus(touch(tmp_path, *names))
    assert [(c.speaker, c.emotion, c.sex) for c in corpus.clips] == [
        ("savee/DC", "anger", "male"),
        ("savee/JE", "surprise", "male"),
    ]


def test_enterface(tmp_path):
    corpus = read_corpus(
        touch(
            tmp_path,
            "subject 1/anger/sentence 1/s1_an_1.avi",
            "subject 12/happiness/sentence 3/s12_ha_3.avi",
            "subject 6/surprise.avi",
        )
    )
    assert [(c.speaker, c.emotion, c.sentence) for c in corpus.clips] == [
        ("enterface/01", "anger", "1"),
        ("enterface/12", "happy", "3"),
    ]
    assert len(corpus.unusable) == 1


def test_enterface_below_a_folder_named_like_an_emotion(tmp_path):
    touch(tmp_path, "happy/enterface/subject 1/anger/sentence 1/s1_an_1.avi")
    corpus = read_corpus(tmp_path / "happy/enterface", "enterface")
    assert [clip.emotion for clip in corpus.clips] == ["anger"]


def test_iemocap(tmp_path):
    wavs = [f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{u}.wav" for u in ("F000", "M001", "F002")]
    touch(tmp_path, *wavs)
    evaluation = tmp_path / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"
    evaluation.parent.mkdir(parents=True)
    evaluation.write_text(
        "% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]\n\n"
        "[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]\nC-E2:\tNeutral;\t()\n"
        "[9.0 - 10.0]\tSes01F_impro01_M001\texc\t[2.5, 2.5, 2.5]\n"
        "[11.0 - 12.0]\tSes01F_impro01_F002\txxx\t[2.5, 2.5, 2.5]\n"
        "[13.0 - 14.0]\tSes01F_impro01_M003\tang\t[2.5, 2.5, 2.5]\n"
    )
    corpus = read_corpus(tmp_path)
    assert corpus.name == "iemocap"
    assert facts(corpus) == [
        ("Ses01F_impro01_F000.wav", "neutral", "iemocap/01F", "female", None),
        ("Ses01F_impro01_M001.wav", "happy", "iemocap/01M", "male", None),
    ]
    assert sorted(u.reason for u in corpus.unusable) == [
        "unmapped emotion xxx",
        "utterance has no sound file",
    ]


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_manifest(tmp_path, suffix):
    table = pl.DataFrame(
        {
            "path": ["a.wav", "b.wav", "c.wav"],
            "emotion": ["Angry", "sad", "bewildered"],
            "speaker": ["1", "2", "2"],
            "start_s": [None, 1.0, None],
            "end_s": [None, 2.0, None],
        }
    )
    path = tmp_path / f"mine{suffix}"
    touch(tmp_path, "a.wav", "b.wav", "c.wav")
    table.write_csv(path) if suffix == ".csv" else table.write_parquet(path)
    corpus = read_corpus(path)
    assert [(c.emotion, c.speaker, c.start_s, c.end_s) for c in corpus.clips] == [
        ("anger", "mine/1", None, None),
        ("sad", "mine/2", 1.0, 2.0),
    ]
    assert corpus.clips[0].path == tmp_path / "a.wav"
    assert corpus.counts() == {"anger": 1, "sad": 1, "unusable: unmapped emotion bewildered": 1}


def test_manifest_without_a_needed_column(tmp_path):
    path = tmp_path / "m.csv"
    path.write_text("path,emotion\na.wav,sad\n")
    with pytest.raises(CorpusError, match="speaker"):
        read_manifest(path)


def test_speakers_of_a_manifest_are_text(tmp_path):
    touch(tmp_path, "a.wav")
    given = ["001", "01", "1", "1234e567", "4321e567", "1.0", " x "]
    rows = "".join(f"a.wav,sad,{speaker},{k},{k + 1}\n" for k, speaker in enumerate(given))
    (tmp_path / "m.csv").write_text("path,emotion,speaker,start_s,end_s\n" + rows)
    assert [clip.speaker for clip in read_corpus(tmp_path / "m.csv").clips] == [
        f"m/{s.strip()}" for s in given
    ]


@pytest.mark.parametrize(
    ("written", "emotion"),
    [
        *(
            ("fearful", "fear"),
            ("surprised", "surprise"),
            ("joy", "happy"),
            ("ang", "anger"),
            ("hap", "happy"),
        ),
        *(("neu", "neutral"), (" Angry ", "anger"), ("DISGUSTED", "disgust"), ("calm", "calm")),
    ],
)
def test_emotions_of_a_manifest_are_understood_as_people_write_them(tmp_path, written, emotion):
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text(f"path,emotion,speaker\na.wav,{written},1\n")
    assert [clip.emotion for clip in read_corpus(tmp_path / "m.csv").clips] == [emotion]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_a_manifest_as_a_spreadsheet_writes_it(tmp_path, separator, encoding):
    touch(tmp_path, "süß.wav")
    rows = [("File", "label", "spk"), ("süß.wav", "angry", "Jörg")]
    (tmp_path / "m.csv").write_bytes("\r\n".join(map(separator.join, rows)).encode(encoding))
    (clip,) = read_corpus(tmp_path / "m.csv").clips
    assert (clip.path, clip.emotion, clip.speaker) == (tmp_path / "süß.wav", "anger", "m/Jörg")


def test_columns_of_other_names_are_told(tmp_path):
    touch(tmp_path, "a.wav")
    (tmp_path / "m.csv").write_text("Datei,Gefühl,file,label,wer\na.wav,sad,b.wav,anger,1\n")
    with pytest.raises(CorpusError, match=r"no column for speaker; .* --columns speaker=\.\.\."):
        read_corpora(tmp_path / "m.csv")
    named = {"path": "Datei", "emotion": "Gefühl", "speaker": "wer"}
    ((clip,),) = (corpus.clips for corpus in read_corpora(tmp_path / "m.csv", columns=named))
    assert (clip.path.name, clip.emotion, clip.speaker) == ("a.wav", "sad", "m/1")
    with pytest.raises(CorpusError, match="has no column who"):
        read_corpora(tmp_path / "m.csv", columns={"speaker": "who"})
    with pytest.raises(CorpusError, match="--columns mood: expected of path"):
        read_corpora(tmp_path / "m.csv", columns={"mood": "wer"})


def test_every_corpus_of_a_folder_is_read_and_each_file_counted_once(tmp_path):
    touch(tmp_path / "crema", "1001_DFA_ANG_XX.wav", "1002_DFA_SAD_XX.wav", "notes.wav")
    touch(tmp_path / "ravdess", "03-01-05-01-01-01-01.wav", "03-02-05-01-01-01-01.wav")
    touch(tmp_path / "emodb", "03a01Wa.wav")
    touch(tmp_path, "stray.wav")
    found = {corpus.name: corpus.counts() for corpus in read_corpora(tmp_path)}
    assert found == {
        "crema-d": {
            "anger": 1,
            "sad": 1,
            "unusable: name is not ACTOR_SENTENCE_EMOTION_LEVEL": 2,
        },
        "ravdess": {"anger": 1, "unusable: song, not speech": 1},
        "emodb": {"anger": 1},
    }
    with pytest.raises(CorpusError, match=r"several corpora, crema-d \(2 clips\), "):
        read_corpus(tmp_path)


def test_every_sound_is_used_once_and_none_under_two_labels(tmp_path):
    for number, name in enumerate(("03-01-05-01-01-01-01", "03-01-04-01-01-01-01", "03-01-03-01-01-01-01")):
        for folder in (tmp_path / "ravdess", tmp_path / "ravdess" / "doubled"):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{name}.wav").write_bytes(b"sound" + bytes([number]))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "a.wav").write_bytes(b"sound\x00")
    (tmp_path / "mine" / "b.wav").write_bytes(b"sound\x01")
    (tmp_path / "mine" / "m.csv").write_text(
        "path,emotion,speaker\na.wav,happy,1\nb.wav,sad,1\na.wav,happy,1\n"
    )
    ravdess, mine = without_copies(
        [read_corpus(tmp_path / "ravdess"), read_corpus(tmp_path / "mine" / "m.csv")]
    )
    assert ravdess.counts() == {
        **{"happy": 1, "sad": 1},
        **{"unusable: copy of another file": 2, "unusable: one sound under the labels anger and happy": 2},
    }
    assert mine.counts() == {
        "unusable: copy of another file": 1,
        "unusable: one sound under the labels anger and happy": 2,
    }


def test_a_manifest_counts_what_it_names_wrongly(tmp_path):
    touch(tmp_path, "a.wav")
    rows = ("a.wav,sad,1,,", "gone.wav,sad,1,,", "a.wav,sad,1,-2,1", "a.wav,sad,1,3,2", "a.wav,sad,1,early,2")
    (tmp_path / "m.csv").write_text("path,emotion,speaker,start_s,end_s\n" + "\n".join(rows) + "\n")
    assert read_corpus(tmp_path / "m.csv").counts() == {
        "sad": 1,
        "unusable: no such file": 1,
        "unusable: start_s and end_s are no part of a file": 3,
    }


def test_a_split_is_understood_however_it_is_spelled_or_refused(tmp_path):
    touch(tmp_path, "a.wav")

    def splits(*given):
        rows = "".join(f"a.wav,sad,{i},{split}\n" for i, split in enumerate(given))
        (tmp_path / "m.csv").write_text("path,emotion,speaker,split\n" + rows)
        return [clip.split for clip in read_corpus(tmp_path / "m.csv").clips]

    assert splits("TEST", "test ", "Validation", "dev", "Train", "") == [
        *("test", "test", "validation", "validation", "train"),
        None,
    ]
    with pytest.raises(CorpusError, match="'evaluation'; expected train, validation, test"):
        splits("train", "evaluation")


@pytest.mark.parametrize("until", ["inf", "nan"])
def test_an_end_that_is_no_time_is_counted(tmp_path, until):
    touch(tmp_path, "a.wav", "b.wav")
    (tmp_path / "m.csv").write_text(f"path,emotion,speaker,end_s\na.wav,sad,1,2\nb.wav,sad,1,{until}\n")
    assert read_corpus(tmp_path / "m.csv").counts()["unusable: start_s and end_s are no part of a file"] == 1


def test_parts_of_nothing_and_samples_without_a_rate_are_counted(tmp_path, rng):
    sf.write(tmp_path / "a.wav", rng.standard_normal(44100) * 0.1, 44100)
    (tmp_path / "b.raw").write_bytes(b"\0\1" * 8000)
    rows = ("a.wav,sad,1,0.5,0.50003", "a.wav,sad,1,7,1e305", "b.raw,sad,1,,", "a.wav,sad,1,0.1,1e305")
    (tmp_path / "m.csv").write_text("path,emotion,speaker,start_s,end_s\n" + "\n".join(rows) + "\n")
    kept, waves, unusable = usable_clips(read_corpus(tmp_path / "m.csv").clips, 8000)
    assert [clip.start_s for clip in kept] == [0.1]
    assert len(waves[0]) == pytest.approx(0.9 * 8000, abs=4)
    assert [u.reason.partition(":")[0] for u in unusable] == ["unreadable"] * 3


@pytest.mark.parametrize(
    "table",
    [
        "A,D,F,H,N,S,fileName\n3,0,0,0,1,0,1001_DFA_ANG_XX\n",
        '"","A","D","F","H","N","S","fileName"\n"100001",3,,0,0,1,0,"1001_DFA_ANG_XX"\n',
        "version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
    ],
)
def test_a_damaged_table_of_crema_d_is_named(tmp_path, table):
    touch(tmp_path, "AudioWAV/1001_DFA_ANG_XX.wav")
    (tmp_path / "tabulatedVotes.csv").write_text(table)
    with pytest.raises(CorpusError, match=r"tabulatedVotes.csv: not the table .* restore it"):
        read_corpus(tmp_path)


def test_what_is_no_corpus_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no such"):
        read_corpus(tmp_path / "gone")
    with pytest.raises(CorpusError, match="manifest"):
        read_corpus(touch(tmp_path, "holiday.wav"))
    with pytest.raises(CorpusError, match="not known"):
        read_corpus(tmp_path, "msp")


def test_part_of_a_file_any_rate_and_channels(tmp_path):
    t = np.arange(96000) / 48000
    stereo = np.stack([np.sin(2 * np.pi * 300 * t), np.zeros(t.size)], axis=1) * 0.5
    sf.write(tmp_path / "a.wav", stereo, 48000)
    (tmp_path / "m.csv").write_text("path,emotion,speaker,start_s,end_s\na.wav,sad,1,0.5,1.5\n")
    wave = decode_clip(read_corpus(tmp_path / "m.csv").clips[0], 8000)
    assert wave.dtype == np.float32
    assert len(wave) == pytest.approx(8000, abs=4)
    assert np.abs(wave[100:-100]).max() == pytest.approx(0.25, abs=0.02)


def test_unreadable_silent_and_double_files_are_counted(tmp_path, rng):
    speech = rng.standard_normal(8000) * 0.1
    for name, samples in {"1001_DFA_ANG_XX": speech, "1001_DFA_SAD_XX": speech * 0.5}.items():
        sf.write(tmp_path / f"{name}.wav", samples, 8000)
    sf.write(tmp_path / "1001_IEO_ANG_XX.wav", speech, 8000)
    sf.write(tmp_path / "1001_IOM_SAD_XX.wav", speech * 0.25, 8000)
    sf.write(tmp_path / "1001_IWL_ANG_XX.wav", speech * 0.25, 8000)
    sf.write(tmp_path / "1001_TAI_SAD_XX.wav", np.zeros(8000), 8000)
    (tmp_path / "1001_WSI_SAD_XX.wav").write_bytes(b"RIFF????")
    kept, waves, unusable = usable_clips(read_corpus(tmp_path).clips, 8000)
    assert [c.path.stem for c in kept] == ["1001_DFA_ANG_XX", "1001_DFA_SAD_XX"]
    assert len(waves) == 2
    reasons = {u.path.stem[5:8]: u.reason for u in unusable}
    assert reasons["IEO"] == "same audio as 1001_DFA_ANG_XX.wav"
    assert reasons["IOM"] == reasons["IWL"] == "one sound under the labels anger and sad"
    assert reasons["TAI"] == "silent"
    assert reasons["WSI"].startswith("unreadable")


def corpus_of(tmp_path, n_speakers=7):
    codes = ("ANG", "SAD", "NEU")
    return read_corpus(
        touch(tmp_path, *(f"{1000 + s}_DFA_{code}_XX.wav" for s in range(n_speakers) for code in codes))
    )


def test_splits_never_share_a_speaker(tmp_path):
    clips = corpus_of(tmp_path).clips
    folds = speaker_folds(clips, 3)
    assert sorted(s for fold in folds for s in fold) == sorted({c.speaker for c in clips})
    for fold in folds:
        training, test = split_by_speaker(clips, fold)
        refuse_leak(training, test)
        assert len(training) + len(test) == len(clips)
        assert not {c.speaker for c in training} & {c.speaker for c in test}


def test_leaks_are_refused(tmp_path):
    clips = corpus_of(tmp_path).clips
    with pytest.raises(LeakError, match="crema-d/1000"):
        refuse_leak(clips[:2], clips[2:])
    with pytest.raises(LeakError, match="crema-d/9999"):
        split_by_speaker(clips, ["crema-d/9999"])
    with pytest.raises(CorpusError, match="8 folds"):
        speaker_folds(clips, 8)


def test_other_labels_are_left_out_and_counted(tmp_path):
    corpus = read_corpus(touch(tmp_path, "03a01La.wav", "03a01Wa.wav"))
    kept = keep_emotions(corpus, SHARED_SIX)
    assert [c.emotion for c in kept.clips] == ["anger"]
    assert kept.unusable[0].reason == "boredom is not among the labels"


def test_the_real_corpora(data_dir):
    root = data_dir / "corpora"
    if not root.is_dir():
        pytest.skip(f"no corpora in {data_dir}")
    sizes = {name: read_corpus(root / name) for name in ("crema-d", "emodb", "ravdess", "tess")}
    assert {n: (len(c.clips), len({x.speaker for x in c.clips})) for n, c in sizes.items()} == {
        "crema-d": (5890, 72),
        "emodb": (409, 8),
        "ravdess": (1200, 20),
        "tess": (2800, 2),
    }
    assert all(corpus.name == name and not corpus.unusable for name, corpus in sizes.items())
    assert all(clip.votes and clip.sex for clip in sizes["crema-d"].clips)
    assert set(CREMA_D_VALIDATION) <= {c.speaker for c in sizes["crema-d"].clips}
    assert {s for fold in RAVDESS_FOLDS for s in fold} == {c.speaker for c in sizes["ravdess"].clips}

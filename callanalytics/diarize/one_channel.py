"""Who spoke when on one channel: speech, voice prints, clustering, overlap."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np

from callanalytics.diarize import segmentation
from callanalytics.diarize.clustering import cluster_voices, mean_prints
from callanalytics.diarize.conversation import Opening, Rhythm, find_opening
from callanalytics.diarize.embedding import PRINT_SIZE, Pieces, piece_sums
from callanalytics.diarize.handovers import passed_on
from callanalytics.diarize.models import SpeechModels
from callanalytics.diarize.two_channels import OFF, ON
from callanalytics.diarize.vad import (
    FRAME_S,
    FRAME_SAMPLES,
    SAMPLE_RATE_HZ,
    IntArray,
    above,
    runs,
    stands_out,
    widen,
)
from callanalytics.records import BoolArray, FloatArray
from ensemble.inference.spectrogram import KALDI_CENTRE_S, KALDI_HOP, kaldi_log_mels, n_kaldi_frames

_WINDOW_STEP_S = 10.0
# Pieces of about 1 s, each embedded from the 1.5 s around its middle.
_PIECE_S = 1.0
_CONTEXT_S = 1.5
_OVERLAP_PROBABILITY = 0.5
# Both detectors count: Silero alone misses emotional and overlapped speech, the segmenter alone
# takes line noise for speech (benchmarks/RESULTS.md).
_SILERO_WEIGHT = 0.5
# In music the segmenter alone is not believed: at 0.5 twice as much music is taken for speech.
_OVER_MUSIC = 0.65
# Speech on one channel stays within this many dB below its loud frames, whoever speaks.
_SPEECH_RANGE_DB = 40.0
_MAYBE_SPEECH = 0.1  # below this everywhere the channel is not worth a second opinion
_MELS_PER_S = SAMPLE_RATE_HZ / KALDI_HOP
_PIECES_AT_ONCE = 240  # about 4 minutes of speech
_PROFILE_S = 60.0  # of speech tell a voice as well as an hour does
_MARGIN_FRAMES = 3  # around speech, so that its edges count too


@dataclass(frozen=True, slots=True)
class Voices:
    """Which frames hold which voice.

    active: (n_speakers, n_frames) bool; prints: (n_speakers, 192) float32 unit vectors; may_be_more: whether
    one of them may be two; in_doubt: whether one of them may hold much of another's speech; opening: how sure
    it is who speaks first, where there are two or more; may_be_passed_on: whether one of two may be two, one
    after the other.
    """

    active: BoolArray
    prints: FloatArray
    may_be_more: bool = False
    in_doubt: bool = False
    opening: Opening | None = None
    may_be_passed_on: bool = False


@dataclass(frozen=True, slots=True)
class SpeechPieces:
    """The speech of one channel in pieces of about 1 s of one voice each, before it is known whose.

    span: (n, 2) first and past-the-end frame, in order of time; prints: (n, 192) of unit length;
    sums: what any group of them is pooled from; local_speaker: (n,) whom the segmenter hears
    (`Rhythm.local_speaker`); overlap: (n_frames,) where two talk at once.
    """

    span: IntArray
    prints: FloatArray
    sums: Pieces
    local_speaker: IntArray
    overlap: BoolArray

    @classmethod
    def none(cls, n_frames: int) -> SpeechPieces:
        """Those of a channel without speech."""
        return cls(
            np.zeros((0, 2), np.int64),
            np.zeros((0, PRINT_SIZE), np.float32),
            Pieces.silent(0),
            np.zeros(0, np.int64),
            np.zeros(n_frames, np.bool_),
        )

    @property
    def rhythm(self) -> Rhythm:
        """When they are spoken."""
        begin_s, end_s = self.span.T * FRAME_S
        n_spoken = int((self.span[:, 1] - self.span[:, 0]).sum())
        return Rhythm(begin_s, end_s, self.local_speaker, np.count_nonzero(self.overlap) / max(1, n_spoken))


def embed_speech(
    samples: FloatArray,
    levels_db: FloatArray,
    probability: FloatArray,
    blocked: BoolArray,
    music: BoolArray,
    models: SpeechModels,
) -> SpeechPieces:
    """The pieces of speech of one channel and their voice prints.

    Args:
        samples: (n,) at 8 kHz.
        levels_db, probability: (n_frames,) level and speech probability per 32 ms frame.
        blocked: (n_frames,) frames of tones or masking: no speech there.
        music: (n_frames,) frames of music: speech only where both networks hear it.
    """
    if not (probability > _MAYBE_SPEECH).any():
        return SpeechPieces.none(len(levels_db))
    local = _local_speakers(samples, len(levels_db), models)
    speech = above(_blended(probability, local, music), on=ON, off=OFF) & ~blocked & stands_out(levels_db)
    if speech.any():
        speech &= levels_db > np.percentile(levels_db[speech], 90) - _SPEECH_RANGE_DB
    if not speech.any():
        return SpeechPieces.none(len(levels_db))
    span = _pieces(speech, local.change)
    prints, sums = _embed_pieces(samples, speech, span, models)
    overlap = (local.overlap > _OVERLAP_PROBABILITY) & speech
    return SpeechPieces(span, prints, sums, local.speaker_of(span), overlap)


def heard_in_music(
    samples: FloatArray, probability: FloatArray, music: BoolArray, models: SpeechModels
) -> FloatArray:
    """Speech probability (n_frames,) of a channel, by both networks where there is music.

    Args:
        samples: (n,) at 8 kHz.
        probability: (n_frames,) by the voice detector, which loses half of the speech under music as loud.
        music: (n_frames,) where music plays.
        models: loaded once per process.
    """
    local = _local_speakers(samples, len(probability), models, music)
    heard: FloatArray = np.where(music, _blended(probability, local, music), probability)
    return heard


def separate_voices(pieces: SpeechPieces, models: SpeechModels, conversation_share: float) -> Voices:
    """The speakers of one channel: none without speech, else 1 to 4.

    Args:
        pieces: of its speech.
        models: loaded once per process.
        conversation_share: of such recordings that hold two voices or more, 0..1.
    """
    if len(pieces.span) == 0:
        return Voices(np.zeros((0, len(pieces.overlap)), np.bool_), pieces.prints)
    whole = partial(models.printer.whole, pieces.sums)
    found = cluster_voices(pieces.prints, pieces.rhythm, models.voice_space, whole, conversation_share)
    labels, seconds = found.labels, pieces.rhythm.seconds
    may_be_passed_on = False
    if labels.max() == 1:
        labels, handover = passed_on(labels, pieces.rhythm, whole, models.voice_space)
        may_be_passed_on = handover.is_unsure
    active = np.zeros((int(labels.max()) + 1, len(pieces.overlap)), np.bool_)
    for (start, end), label in zip(pieces.span, labels, strict=True):
        active[label, start:end] = True
    if len(active) > 1:
        _mark_overlap(active, pieces.overlap)
    centres = mean_prints(pieces.prints, seconds, labels)
    opening = find_opening(labels, pieces.rhythm, whole) if len(active) > 1 else None
    return Voices(active, centres, found.may_be_more, found.in_doubt, opening, may_be_passed_on)


def hear_parts(samples: FloatArray, part: IntArray, n_parts: int, models: SpeechModels) -> Pieces:
    """What the voice network hears in each part of a side, so that any group of them can be pooled as one.

    Args:
        samples: (n,) at 8 kHz.
        part: (n_frames,) number of the part that a frame belongs to, -1 for what is not heard.
        n_parts: of these, parts that are nowhere included.
        models: loaded once per process.
    """
    spoken = part >= 0
    heard = Pieces.silent(n_parts)
    pieces = _pieces(spoken, np.append(False, part[1:] != part[:-1]))
    if len(pieces):
        _, sums = _embed_pieces(samples, spoken, pieces, models)
        of_piece = part[pieces[:, 0]]
        np.add.at(heard.n_rows, of_piece, sums.n_rows)
        np.add.at(heard.total, of_piece, sums.total)
        np.add.at(heard.squares, of_piece, sums.squares)
    return heard


def voice_of(samples: FloatArray, active: BoolArray, models: SpeechModels) -> FloatArray | None:
    """Mean print (192,) of a side that holds one voice, from its first minute of speech; None without any.

    Args:
        samples: (n,) at 8 kHz.
        active: (n_frames,) where that voice speaks.
    """
    spoken = active & (np.cumsum(active) * FRAME_S <= _PROFILE_S)
    pieces = _pieces(spoken, np.zeros(len(spoken), np.bool_))
    if len(pieces) == 0:
        return None
    prints, _ = _embed_pieces(samples, spoken, pieces, models)
    mean: FloatArray = (pieces[:, 1] - pieces[:, 0]) @ prints
    return (mean / max(float(np.linalg.norm(mean)), 1e-9)).astype(np.float32)


def _mark_overlap(active: BoolArray, overlap: BoolArray) -> None:
    """Where two talk at once, add the other voice that speaks nearest in time."""
    distance = np.stack([_frames_to_nearest(row) for row in active])
    distance[active] = np.iinfo(np.int64).max
    second = distance.argmin(axis=0)
    active[second[overlap], np.flatnonzero(overlap)] = True


def _frames_to_nearest(mask: BoolArray) -> IntArray:
    """Distance of every frame to the nearest True of a 1-d mask that has one."""
    at = np.flatnonzero(mask)
    frame = np.arange(len(mask))
    after = np.searchsorted(at, frame)
    to_next = np.abs(at[np.minimum(after, len(at) - 1)] - frame)
    to_last = np.abs(at[np.maximum(after - 1, 0)] - frame)
    nearest: IntArray = np.minimum(to_next, to_last)
    return nearest


@dataclass(frozen=True, slots=True)
class _Local:
    speech: FloatArray
    overlap: FloatArray
    change: BoolArray  # the loudest local speaker is another one than in the frame before
    activity: FloatArray  # (n_frames, N_LOCAL) probability that each local speaker of the window talks
    window: IntArray

    def speaker_of(self, span: IntArray) -> IntArray:
        """Number (n,) of the local speaker who talks most in each piece (n, 2)."""
        window = self.window[span.sum(axis=1) // 2]
        most = [
            int(self.activity[a:b][self.window[a:b] == here].sum(axis=0).argmax())
            for (a, b), here in zip(span, window, strict=True)
        ]
        number: IntArray = segmentation.N_LOCAL * window + np.array(most, np.int64)
        return number


def _blended(probability: FloatArray, local: _Local, music: BoolArray) -> FloatArray:
    """What both networks hear together. Music alone one of them may take for speech, not both."""
    blended = _SILERO_WEIGHT * probability + (1 - _SILERO_WEIGHT) * local.speech
    is_heard = np.minimum(blended, local.speech) > _OVER_MUSIC
    heard: FloatArray = np.where(music & ~is_heard, 0, blended).astype(np.float32)
    return heard


def _local_speakers(
    samples: FloatArray, n_frames: int, models: SpeechModels, looked: BoolArray | None = None
) -> _Local:
    """What the segmenter hears, in the windows with frames that are `looked` at; nobody elsewhere."""
    step = round(_WINDOW_STEP_S * SAMPLE_RATE_HZ)
    starts = np.arange(0, max(1, len(samples)), step)
    # Nearest network frame of every 32 ms frame.
    middle_s = (np.arange(n_frames) + 0.5) * FRAME_S
    window = np.minimum((middle_s // _WINDOW_STEP_S).astype(np.int64), len(starts) - 1)
    wanted = np.arange(len(starts)) if looked is None else np.unique(window[looked])
    found = np.zeros((len(starts), segmentation.N_FRAMES, len(segmentation.POWERSET)), np.float32)
    found[:, :, 0] = 1
    found[wanted] = models.segmenter.windows(samples, starts[wanted].tolist())
    speech = 1 - found[:, :, 0]
    overlap = found[:, :, 4:].sum(axis=2)
    inside_s = middle_s - window * _WINDOW_STEP_S
    frame = np.rint((inside_s - segmentation.FRAME_CENTRE_S) / segmentation.FRAME_STEP_S).astype(np.int64)
    frame = np.clip(frame, 0, segmentation.N_FRAMES - 1)
    activity = found[window, frame] @ segmentation.POWERSET
    loudest = activity.argmax(axis=1)
    change = np.append(False, (loudest[1:] != loudest[:-1]) & (window[1:] == window[:-1]))
    return _Local(speech[window, frame], overlap[window, frame], change, activity, window)


def _pieces(speech: BoolArray, change: BoolArray) -> IntArray:
    """Stretches of speech without a change of local speaker, cut to about 1.5 s: (n, 2) frames."""
    longest = round(_PIECE_S / FRAME_S)
    pieces: list[tuple[int, int]] = []
    for start, end in runs(speech):
        borders = [start, *(start + np.flatnonzero(change[start:end])).tolist(), end]
        for a, b in pairwise(borders):
            if b > a:
                edges = np.linspace(a, b, -(-(b - a) // longest) + 1).round().astype(np.int64)
                pieces.extend(pairwise(edges.tolist()))
    return np.array(pieces, dtype=np.int64)


def _embed_pieces(
    samples: FloatArray, speech: BoolArray, pieces: IntArray, models: SpeechModels
) -> tuple[FloatArray, Pieces]:
    """Voice print of the speech around the middle of every piece, (n, 192), and what each holds itself."""
    found = [
        _embed_block(samples, speech, pieces[first : first + _PIECES_AT_ONCE], models)
        for first in range(0, len(pieces), _PIECES_AT_ONCE)
    ]
    prints: FloatArray = np.concatenate([block for block, _ in found])
    return prints, Pieces.joined([sums for _, sums in found])


def _embed_block(
    samples: FloatArray, speech: BoolArray, pieces: IntArray, models: SpeechModels
) -> tuple[FloatArray, Pieces]:
    """The same of neighbouring pieces in one pass: bounds the memory of hour-long calls."""
    margin = round(_CONTEXT_S / FRAME_S)
    begin, end = max(0, pieces[0, 0] - margin), min(len(speech), pieces[-1, 1] + margin)
    near = samples[begin * FRAME_SAMPLES : end * FRAME_SAMPLES]
    middle_of_mel_s = np.arange(n_kaldi_frames(len(near))) / _MELS_PER_S + KALDI_CENTRE_S
    frame = np.minimum((middle_of_mel_s / FRAME_S).astype(np.int64), end - begin - 1)
    chosen = np.flatnonzero(widen(speech[begin:end], _MARGIN_FRAMES)[frame])
    if len(chosen) == 0:  # shorter than one analysis window
        return np.zeros((len(pieces), PRINT_SIZE), np.float32), Pieces.silent(len(pieces))
    hidden = models.printer.extract(kaldi_log_mels(near, chosen), chosen)
    edges = ((pieces - begin) * FRAME_S * _MELS_PER_S).astype(np.int64)
    middle_s = (pieces.mean(axis=1) - begin) * FRAME_S
    first = ((middle_s - _CONTEXT_S / 2) * _MELS_PER_S).astype(np.int64)
    last = ((middle_s + _CONTEXT_S / 2) * _MELS_PER_S).astype(np.int64)
    return models.printer.prints(hidden, first, last), piece_sums(hidden, edges[:, 0], edges[:, 1])

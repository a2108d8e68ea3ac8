"""The peers of benchmarks/throughput.py, each on the same calls, one thread, in a process of its own.

    python benchmarks/peers.py CALL.wav ...

Prints one JSON object: seconds of a thread's time per hour of calls, or why a peer is absent.
"""

from __future__ import annotations

import os

os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", HF_HUB_OFFLINE="1")

import json
import sys
import time
from collections.abc import Callable
from itertools import islice
from pathlib import Path

import numpy as np
from nights import RATE_HZ, FloatArray

from callanalytics.audio import decode_recording
from callanalytics.config import Settings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.segments import cut_segments
from callanalytics.records import Audio, Segment
from ensemble.inference.card import read_card
from ensemble.inference.ensemble import SHIPPED
from ensemble.inference.spectrogram import FrontEnd, extract
from ensemble.members import MEMBERS, make_member

# A peer is timed on at most this much speech, since some take minutes for a minute.
MAX_SEGMENTS = 40
WAV2VEC_RATE_HZ = 16_000


class Call:
    """A decoded call and its segments: what the peers get for free."""

    def __init__(self, path: Path, models: SpeechModels) -> None:
        settings = Settings()
        self.audio: Audio = decode_recording([path], settings.audio)
        spoken = diarize(self.audio.samples, self.audio.sample_rate_hz, models=models)
        self.segments: tuple[Segment, ...] = cut_segments(spoken.turns, spoken.roles, settings.segments)

    def sound(self, segment: Segment) -> FloatArray:
        first, last = round(segment.start_s * RATE_HZ), round(segment.end_s * RATE_HZ)
        sound: FloatArray = self.audio.samples[segment.channel, first:last]
        return sound


def thread_s(work: Callable[[], object]) -> float:
    started = time.process_time()
    work()
    return time.process_time() - started


def egemaps(calls: list[Call]) -> float:
    """openSMILE's eGeMAPS functionals of every channel, once per call: its cheapest use."""
    import opensmile

    smile = opensmile.Smile(opensmile.FeatureSet.eGeMAPSv02, opensmile.FeatureLevel.Functionals)
    smile.process_signal(calls[0].audio.samples[0, : 5 * RATE_HZ], RATE_HZ)

    def work() -> None:
        for call in calls:
            for channel in call.audio.samples:
                smile.process_signal(channel, RATE_HZ)

    return thread_s(work)


def librosa_and_torch(sounds: list[FloatArray]) -> float:
    """A plain loop: librosa's descriptors (yin, never pyin), then the members trained here in eager torch."""
    import librosa
    import torch

    torch.set_num_threads(1)
    card = read_card(SHIPPED)
    front = FrontEnd.from_card(card["front_end"])
    # Their weights do not matter to the clock.
    members = [
        make_member(entry["architecture"], front.n_mels, len(card["labels"])).eval()
        for entry in card["members"]
        if entry["architecture"] in MEMBERS
    ]

    def one(sound: FloatArray) -> None:
        frames = {"n_fft": 512, "hop_length": 80}
        librosa.feature.mfcc(y=sound, sr=RATE_HZ, n_mfcc=13, **frames)
        librosa.feature.spectral_centroid(y=sound, sr=RATE_HZ, **frames)
        librosa.feature.spectral_bandwidth(y=sound, sr=RATE_HZ, **frames)
        librosa.feature.spectral_rolloff(y=sound, sr=RATE_HZ, **frames)
        librosa.feature.zero_crossing_rate(sound, frame_length=512, hop_length=80)
        librosa.feature.rms(y=sound, frame_length=512, hop_length=80)
        librosa.feature.chroma_stft(y=sound, sr=RATE_HZ, **frames)
        librosa.yin(sound, fmin=60, fmax=500, sr=RATE_HZ, frame_length=512, hop_length=80)
        mel = extract(sound, front)[0]
        with torch.inference_mode():
            for member in members:
                member(torch.from_numpy(mel)[None], torch.ones(1, len(mel)))

    one(sounds[0])  # librosa compiles at the first call
    return thread_s(lambda: [one(sound) for sound in sounds])


def wav2vec2(sounds: list[FloatArray]) -> float:
    """Forward pass of the wav2vec2-base architecture with random weights, one segment at a time."""
    import soxr
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    torch.set_num_threads(1)
    model = Wav2Vec2Model(Wav2Vec2Config()).eval()
    wide = [torch.from_numpy(soxr.resample(sound, RATE_HZ, WAV2VEC_RATE_HZ))[None] for sound in sounds]

    def work() -> None:
        with torch.inference_mode():
            for sound in wide:
                model(sound)

    with torch.inference_mode():
        model(wide[0])
    return thread_s(work)


def main() -> None:
    models = SpeechModels.load()
    calls = [Call(Path(path), models) for path in sys.argv[1:]]
    call_s = sum(call.audio.duration_s for call in calls)
    speech_s = sum(segment.duration_s for call in calls for segment in call.segments)
    pairs = [(call, segment) for call in calls for segment in call.segments]
    step = max(1, len(pairs) // MAX_SEGMENTS)
    sounds = [call.sound(segment) for call, segment in islice(pairs, 0, None, step)]
    timed_s = sum(len(sound) for sound in sounds) / RATE_HZ
    found: dict[str, float | str] = {"call_s": call_s, "speech_s": speech_s, "timed_speech_s": timed_s}
    # Of the speech heard by a peer to all speech of an hour of calls.
    per_hour = speech_s / timed_s / (call_s / 3600)
    peers: dict[str, Callable[[], float]] = {
        "openSMILE eGeMAPS": lambda: egemaps(calls) / (call_s / 3600),
        "librosa loop + eager torch members": lambda: librosa_and_torch(sounds) * per_hour,
        "wav2vec2-base forward": lambda: wav2vec2(sounds) * per_hour,
    }
    for name, peer in peers.items():
        try:
            found[name] = peer()
        except ImportError as absent:
            found[name] = f"absent: {absent}"
    print(json.dumps({k: v if isinstance(v, str) else float(np.round(v, 3)) for k, v in found.items()}))


if __name__ == "__main__":
    main()

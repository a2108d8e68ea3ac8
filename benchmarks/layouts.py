"""Does a call keep its caller and its flag when its channels are spoilt? Figures: benchmarks/RESULTS.md.

    python benchmarks/layouts.py DATA [--calls 5] [--details]

Each of the real calls of HarperValleyBank in `DATA/calls` is analysed clean, stereo and mono, and then with a
second channel that holds no speech, with one channel twice, and with each side's echo in the other. Right is
the layout, the flag of the clean call, and its seconds of caller within 15 %: builds with echo are held
against the clean stereo call, all others against the clean mono call, of which they are made.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

os.environ.update(OPENBLAS_NUM_THREADS="1", OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")

import numpy as np
import soundfile as sf
from built_calls import late, through
from scipy.signal import butter, sosfilt

from callanalytics.analysis.call import CallAnalysis, load_analysis
from callanalytics.config import Settings
from callanalytics.records import Role
from jobs.cli.single_file import found_recording

RATE_HZ = 8000
SAME_TALK = 0.15


def coded(sound: np.ndarray, coding: str) -> np.ndarray:
    """Coded and decoded, as long as before."""
    decoded = through(sound.astype(np.float32), coding)[0][: len(sound)]
    return np.pad(decoded, (0, len(sound) - len(decoded)))


def levelled(sound: np.ndarray) -> np.ndarray:
    """With a gain that brings a third of a second to one level."""
    level = np.sqrt(np.convolve(sound**2, np.ones(2400) / 2400, "same"))
    return 0.06 * sound / np.maximum(0.02, level)


def low_cut(sound: np.ndarray) -> np.ndarray:
    """Without what is below 800 Hz."""
    return sosfilt(butter(2, 800, "highpass", fs=RATE_HZ, output="sos"), sound)


def sine(n: int, *frequencies_hz: float) -> np.ndarray:
    """Tones that sum to about a tenth of full scale."""
    at_s = np.arange(n) / RATE_HZ
    return 0.1 * sum(np.sin(2 * np.pi * hz * at_s) for hz in frequencies_hz) / len(frequencies_hz)


def chords(n: int) -> np.ndarray:
    """Hold music: a chord a second, decaying."""
    at_s = np.arange(n) / RATE_HZ
    roots_hz = np.array([220.0, 262.0, 294.0, 247.0])[at_s.astype(int) % 4]
    parts = [(ratio, k) for ratio in (1, 1.26, 1.5) for k in (1, 2, 3)]
    notes = [np.sin(2 * np.pi * roots_hz * ratio * k * at_s) / k for ratio, k in parts]
    return 0.05 * np.exp(-2 * (at_s % 1)) * sum(notes)


def builds(stereo: np.ndarray, mix: np.ndarray) -> Iterator[tuple[str, str, np.ndarray]]:
    """(name, right layout, samples) of every build of a call; (2, n) and (n,)."""
    n, rng = len(mix), np.random.default_rng(1)
    noise = 0.006 * rng.uniform(-1, 1, n)
    at_s = np.arange(n) / RATE_HZ
    yield "clean stereo", "stereo", stereo
    yield "clean mono", "mono", mix[None]
    for name, side in (
        ("noise side", noise),
        ("faint noise side", noise / 10),
        ("loud noise side", 10 * noise),
        ("brown noise side", 0.02 * np.cumsum(noise) / np.cumsum(noise).std()),
        ("hum side", 0.2 * sine(n, 50, 150, 250) + noise / 6),
        ("ringing side", sine(n, 440, 480) * (at_s % 6 < 2) + noise / 6),
        ("hold music side", chords(n)),
        ("loud music side", 6 * chords(n)),
        ("DC and noise side", 0.3 + noise / 3),
    ):
        yield name, "one_sided", np.stack([mix, side])
    yield "noise on the left", "one_sided", np.stack([noise, mix])
    for delay_ms in (25, 30, 40, 100, 300, 400, 700, 1000):
        yield f"doubled, {delay_ms} ms", "fake_stereo", np.stack([mix, late(mix, delay_ms)])
    yield "doubled, 30 ms, inverted", "fake_stereo", np.stack([mix, -late(mix, 30)])
    yield "doubled, 300 ms, -20 dB", "fake_stereo", np.stack([mix, 0.1 * late(mix, 300)])
    for coding in ("gsm", "amr-12.2", "amr-5.9", "mp3-8", "opus-8"):
        yield f"doubled, 40 ms, {coding}", "fake_stereo", np.stack([mix, coded(late(mix, 40), coding)])
    yield "doubled, 300 ms, gsm left", "fake_stereo", np.stack([coded(late(mix, 300), "gsm"), mix])
    yield "doubled, 30 ms, noise", "fake_stereo", np.stack([mix, late(mix, 30) + noise])
    yield "doubled, 100 ms, levelled", "fake_stereo", np.stack([mix, levelled(late(mix, 100))])
    yield "doubled, 100 ms, low cut", "fake_stereo", np.stack([mix, low_cut(late(mix, 100))])
    for left_ms, right_ms, down_db in (
        *((delay_ms, delay_ms, 10) for delay_ms in (40, 100, 250, 400, 500)),
        (100, 400, 10),
        (250, 250, 6),
        (250, 250, 20),
    ):
        echo = np.stack([late(stereo[1], left_ms), late(stereo[0], right_ms)])
        delay = f"{left_ms}" if left_ms == right_ms else f"{left_ms}, {right_ms}"
        yield (
            f"echo, {delay} ms, -{down_db} dB",
            "stereo",
            np.clip(stereo + 10 ** (-down_db / 20) * echo, -1, 1),
        )
    yield "stereo, DC on one side", "stereo", np.stack([stereo[0], 0.3 + 0.6 * stereo[1]])
    yield "stereo, noise on one side", "stereo", np.stack([stereo[0], stereo[1] + noise])
    yield "stereo, hum on one side", "stereo", np.stack([stereo[0] + 0.2 * sine(n, 50, 150, 250), stereo[1]])


def talk_s(call: CallAnalysis) -> float:
    """Seconds that the caller speaks."""
    speech = call.speech
    return sum(turn.duration_s for turn in speech.turns if speech.roles[turn.speaker] is Role.CALLER)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("data", type=Path)
    parser.add_argument("--calls", type=int, default=5)
    parser.add_argument("--details", action="store_true", help="a line for every build of every call")
    arguments = parser.parse_args()
    root = arguments.data / "calls" / "harper-valley"
    settings = Settings()
    analyse = load_analysis(settings, None)
    results: dict[str, list[tuple[bool, bool, bool, float]]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((root / "stereo").glob("*.wav"))[: arguments.calls]:
            mix = sf.read(root / "mono" / path.name)[0]
            clean: dict[str, tuple[float, bool]] = {}
            for name, layout, samples in builds(sf.read(path)[0].T, mix):
                built = Path(folder) / "call.wav"
                sf.write(built, samples.T, RATE_HZ, subtype="PCM_16")
                call = analyse(found_recording([built], settings))
                clean.setdefault(name, (talk_s(call), call.assessment.flagged))
                reference = "clean stereo" if layout in ("stereo", "mono") else "clean mono"
                reference_s, flagged = clean[reference]
                ratio = talk_s(call) / reference_s
                right = call.speech.layout == layout, call.assessment.flagged == flagged
                results[name].append((*right, abs(ratio - 1) <= SAME_TALK, ratio))
                if arguments.details:
                    noted = ", ".join(call.speech.quality)
                    print(f"    {path.stem} {name:28s} {ratio:5.2f} {call.speech.layout} {noted}", flush=True)
    print(f"{'build':28s} {'layout':>7s} {'flag':>7s} {'caller':>7s}   seconds of caller against clean")
    for name, rows in results.items():
        counts = " ".join(f"{f'{sum(row[k] for row in rows)}/{len(rows)}':>7s}" for k in range(3))
        ratios = [row[3] for row in rows]
        print(f"{name:28s} {counts}   {min(ratios):.2f} to {max(ratios):.2f}")


if __name__ == "__main__":
    main()

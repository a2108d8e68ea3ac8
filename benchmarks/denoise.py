"""Does turning steady noise down help the ensemble? Noisy telephone speech with and without.

Each CREMA-D validation speaker gets one noisy line: all clips end to end with pauses, one coloured noise
under them at 5, 10 or 15 dB, then G.711 over the telephone band. The line is denoised as a whole, as a call
would be, and cut again. Prints UAR of the vote per noise and per knowledge of the speaker, and the paired
difference with its 95 % interval over speakers (positive: denoising helps).

    python benchmarks/denoise.py --corpus ../shared/corpora/crema-d [--ensemble FOLDER] [--json]
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from callanalytics.audio.noise_reduction import denoise
from ensemble.corpora import CREMA_D_VALIDATION, Clip, decode_clip, read_corpus
from ensemble.evaluation import Prepared, member_probabilities
from ensemble.evaluation.paired import paired_difference
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.spectrogram import extract
from ensemble.training.augmentation import add_at_snr, channel_level, coloured_noise, telephone

PAUSE_S = 0.4
SNRS_DB = (None, 15.0, 10.0, 5.0)
SLOPES = {"white": 0.0, "pink": 1.0}
KNOWN = ("clip", "speaker", "calm")


def noisy_line(
    clips: list[Clip], rate_hz: int, snr_db: float | None, slope: float, seed: int
) -> tuple[np.ndarray, list[slice]]:
    """One speaker's clips on one telephone line, and where each lies."""
    pause, waves, places, at = np.zeros(round(PAUSE_S * rate_hz), np.float32), [], [], 0
    said = [decode_clip(clip, rate_hz) for clip in clips]
    for wave in said:
        waves += [pause, wave]
        places.append(slice(at + pause.size, at + pause.size + wave.size))
        at += pause.size + wave.size
    line, level = np.concatenate(waves), channel_level(said)
    if snr_db is not None:
        noise = coloured_noise(line.size, slope, np.random.default_rng(seed))
        line = add_at_snr(line, noise, snr_db, level)
    return telephone(line, "mu-law", sample_rate_hz=rate_hz, channel_rms=level), places


def prepared(
    ensemble: Ensemble, by_speaker: dict[str, list[Clip]], snr_db: float | None, slope: float, clean: bool
) -> Prepared:
    """What the ensemble hears of every clip, from lines that are denoised or not."""
    kept, sent, heard = [], [], []
    for seed, (_, clips) in enumerate(sorted(by_speaker.items())):
        line, places = noisy_line(clips, ensemble.sample_rate_hz, snr_db, slope, seed)
        if clean:
            line = denoise(line[None], ensemble.sample_rate_hz)[0]
        kept += clips
        sent += [line[place] for place in places]
        heard += [extract(line[place], ensemble.front) for place in places]
    mels, known = zip(*heard, strict=True)
    return Prepared(tuple(kept), tuple(sent), mels, known, ())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--ensemble", type=Path)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    ensemble = load_ensemble(arguments.ensemble)
    by_speaker: dict[str, list[Clip]] = {}
    for clip in read_corpus(arguments.corpus).clips:
        if clip.speaker in CREMA_D_VALIDATION and clip.emotion in ensemble.labels:
            by_speaker.setdefault(clip.speaker, []).append(clip)
    rows = []
    for snr_db in SNRS_DB:
        for colour, slope in SLOPES.items() if snr_db is not None else [("none", 0.0)]:
            both = [prepared(ensemble, by_speaker, snr_db, slope, clean) for clean in (False, True)]
            truth = np.array([ensemble.labels.index(clip.emotion) for clip in both[0].clips])
            speakers = [clip.speaker for clip in both[0].clips]
            for known in KNOWN:
                guesses = [
                    ensemble.vote_on(member_probabilities(ensemble, p, known)[0]).top_index for p in both
                ]
                found = paired_difference(f"{colour} {snr_db}", truth, *guesses, speakers)
                rows.append({"noise": colour, "snr_db": snr_db, "known": known, **found.to_json()})
                if not arguments.json:
                    print(
                        f"{colour:<6} {snr_db or '-':>5} dB  known {known:<8} UAR {found.uar_a:.1%} -> "
                        f"{found.uar_b:.1%}  {found.difference:+.1%} [{found.low:+.1%}, {found.high:+.1%}]",
                        flush=True,
                    )
    if arguments.json:
        print(json.dumps({"ensemble_id": ensemble.ensemble_id, "rows": rows}, indent=1))


if __name__ == "__main__":
    main()

"""The columns: every descriptor's name, unit and meaning, in the order of the database."""

from __future__ import annotations

N_MFCC = 13
PITCH_CLASSES = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")

_CEPSTRUM = {
    "mean": "mean of MFCC {i} (librosa's numbering, power in dB, 40 mel bands)",
    "std": "standard deviation of MFCC {i}",
    "delta_mean": "mean slope of MFCC {i}, per frame of 16 ms",
    "delta_std": "standard deviation of the slope of MFCC {i}, per frame of 16 ms",
}

FEATURE_COMMENTS: dict[str, str] = {
    "loudness_db": "RMS level of the whole segment in dB relative to full scale",
    "loudness_max_db": "RMS level of the loudest frame (48 ms) in dB relative to full scale",
    "loudness_std_db": "standard deviation of the frame levels in dB",
    "loudness_lufs": "gated, K-weighted loudness in LUFS after ITU-R BS.1770",
    "peak_db": "highest absolute sample in dB relative to full scale",
    "f0_median_hz": "median pitch of the voiced frames in Hz, NaN when nothing is voiced",
    "f0_mean_hz": "mean pitch of the voiced frames in Hz, NaN when nothing is voiced",
    "f0_std_st": "standard deviation of the pitch in semitones, NaN when nothing is voiced",
    "f0_range_st": "5th to 95th percentile of the pitch in semitones, NaN when nothing is voiced",
    "voiced_share": "share of frames with a pitch, 0 to 1",
    "hnr_db": "harmonics-to-noise ratio of the voiced frames in dB, NaN when nothing is voiced",
    "syllable_rate_hz": "level peaks of voiced frames per second, a proxy of the speaking rate",
    "zcr_share": "share of neighbouring samples that differ in sign, mean over frames",
    "centroid_hz": "spectral centroid in Hz, mean over frames",
    "bandwidth_hz": "spread of the spectrum around its centroid in Hz, mean over frames",
    "rolloff_hz": "frequency in Hz below which 85 % of the spectral magnitude lies, mean over frames",
    "flux_db": "rise of the mel spectrum from one frame to the next in dB, mean over bands and frames",
    **{
        f"mfcc_{i + 1:02d}_{kind}": text.format(i=i)
        for kind, text in _CEPSTRUM.items()
        for i in range(N_MFCC)
    },
    **{
        f"chroma_{i + 1:02d}_mean": f"mean share of pitch class {name}, where the strongest of a frame is 1"
        for i, name in enumerate(PITCH_CLASSES)
    },
}
FEATURE_NAMES: tuple[str, ...] = tuple(FEATURE_COMMENTS)

"""Acoustic descriptors of every segment, for SQL: one short-time Fourier transform serves them all.

Frames are 48 ms every 16 ms. Those of many segments are stacked, described together and reduced to one
row a segment; no Python runs per frame, and a three-hour call is worked on in blocks. The columns are in
`descriptors.py`.
"""

from collections.abc import Sequence

import numpy as np

from callanalytics.features.descriptors import FEATURE_COMMENTS, FEATURE_NAMES
from callanalytics.features.frames import RATE_HZ, Stack, groups, stack
from callanalytics.features.loudness import levels, syllable_peaks
from callanalytics.features.pitch import pitch_columns, track
from callanalytics.features.spectrum import cepstrum, chroma_means, shape, spectra, zero_crossings
from callanalytics.records import Features, FloatArray, Segment

__all__ = ["FEATURE_COMMENTS", "FEATURE_NAMES", "extract"]


def extract(samples: FloatArray, sample_rate_hz: int, segments: Sequence[Segment]) -> Features:
    """Describe each segment on its own channel.

    Args:
        samples: float32 (n_channels, n_samples), -1..1, finite.
        sample_rate_hz: must be 8000.
        segments: what to describe.

    Returns:
        Features named FEATURE_NAMES, float32 (n_segments, n_features). What is undefined (the pitch of
        an unvoiced segment, the slope of one shorter than 9 frames) is NaN; all else is finite, and no
        level is below -100 dB. A constant offset of a segment is removed first.

    Raises:
        ValueError: another sampling rate; recordings are decoded to 8 kHz.
    """
    if sample_rate_hz != RATE_HZ:
        raise ValueError(f"descriptors are defined at {RATE_HZ} Hz, found {sample_rate_hz} Hz: decode first")
    values = np.empty((len(segments), len(FEATURE_NAMES)), dtype=np.float32)
    for first, last in groups(segments):
        columns = _describe(stack(samples, segments[first:last]))
        for index, name in enumerate(FEATURE_NAMES):
            values[first:last, index] = columns[name]
    return Features(names=FEATURE_NAMES, values=values)


def _describe(stacked: Stack) -> dict[str, FloatArray]:
    found = spectra(stacked)
    pitch = track(stacked, found.autocorrelation)
    n_peaks = syllable_peaks(stacked.frame_db, np.isfinite(pitch.f0_hz), stacked.first_frame)
    return {
        **levels(stacked, found.k_power),
        **pitch_columns(stacked, pitch),
        "syllable_rate_hz": n_peaks / stacked.duration_s,
        "zcr_share": zero_crossings(stacked),
        **shape(stacked, found.power),
        **cepstrum(stacked, found.mel),
        **chroma_means(stacked, found.chroma),
    }

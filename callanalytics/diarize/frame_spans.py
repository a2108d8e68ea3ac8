"""Frame decisions to stretches of time: bridge pauses, drop blips, round off."""

from __future__ import annotations

import numpy as np

from callanalytics.diarize.vad import FRAME_S, BoolArray, runs

# A turn is one voice without a pause of half a second or more: the convention of the reference
# transcripts of HarperValleyBank, where no two utterances of one speaker are closer than 0.48 s.
BRIDGE_S = 0.5
# Shorter than any word of telephone speech: clicks, breaths.
MIN_TURN_S = 0.2
# The detector reports the first frame after the onset; half its frame is added on both sides.
PAD_S = 0.05


def stretches(
    mask: BoolArray, duration_s: float, *, bridge_s: float = BRIDGE_S, min_s: float = MIN_TURN_S
) -> list[tuple[float, float]]:
    """Half-open (start_s, end_s) of the turns in a 1-d mask of 32 ms frames."""
    found = runs(mask)
    if len(found) == 0:
        return []
    pause_s = (found[1:, 0] - found[:-1, 1]) * FRAME_S
    breaks = np.flatnonzero(pause_s >= bridge_s)
    starts = found[np.append(0, breaks + 1), 0] * FRAME_S
    ends = found[np.append(breaks, len(found) - 1), 1] * FRAME_S
    kept = ends - starts >= min_s
    return [
        (round(max(0.0, float(start) - PAD_S), 3), round(min(duration_s, float(end) + PAD_S), 3))
        for start, end in zip(starts[kept], ends[kept], strict=True)
    ]

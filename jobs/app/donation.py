"""Storing an utterance, only when its speaker asks for it."""

from __future__ import annotations

import json
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from callanalytics.workspace import Workspace
from jobs.app.utterance import Heard


def keep_utterance(workspace: Workspace, heard: Heard, *, target: str | None, sentence: str) -> Path:
    """Write the sound (16 bit WAV at the rate it was heard at) and what is known of it as JSON beside it.

    Both files are private (0600). Returns the path of the sound; raises OSError.
    """
    import soundfile as sf

    folder = workspace.kept_utterances
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    now = datetime.now(UTC)
    path = folder / f"{now:%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}.wav"
    facts = {
        "kept_at": now.isoformat(timespec="seconds"),
        "aimed_for": target,
        "sentence": sentence,
        "heard_as": heard.votes.emotion(0),
        "abstain_reason": heard.votes.abstain_reason[0],
        "confidence": round(float(heard.votes.confidence[0]), 4),
    }
    pcm = np.rint(np.clip(heard.samples, -1.0, 1.0) * 32767.0).astype(np.int16)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as stream:
        sf.write(stream, pcm, heard.sample_rate_hz, format="WAV", subtype="PCM_16")
    beside = path.with_suffix(".json")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as text:
        json.dump(facts, text, indent=1)
    return path

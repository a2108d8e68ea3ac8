"""Any recorder's file -> float32 sound at the canonical rate. See `decode.py`."""

from callanalytics.audio.decode import CANONICAL_RATE_HZ, decode_recording

__all__ = ["CANONICAL_RATE_HZ", "decode_recording"]

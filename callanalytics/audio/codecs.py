"""The decoders that a recording may make FFmpeg use: those of sound that recorders write.

Everything else in a file stays undecoded, also while FFmpeg looks for what a file holds: an album cover of
16,000 x 16,000 points is 1 MB in the file and 1 GB in memory. Names are FFmpeg's (`ffmpeg -decoders`).
"""

from __future__ import annotations

DECODERS = frozenset(
    (
        *("pcm_alaw", "pcm_mulaw", "pcm_u8", "pcm_s8", "pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be"),
        *("pcm_s32le", "pcm_s32be", "pcm_s64le", "pcm_s64be", "pcm_f32le", "pcm_f32be", "pcm_f64le"),
        *("pcm_f64be", "pcm_u16le", "pcm_u16be", "pcm_s8_planar", "pcm_s16le_planar", "pcm_s16be_planar"),
        *("adpcm_ima_wav", "adpcm_ima_qt", "adpcm_ms", "adpcm_swf", "adpcm_yamaha", "dss_sp"),
        *("g722", "g723_1", "g726", "g726le", "g728", "g729", "gsm", "gsm_ms", "ilbc", "truespeech"),
        *("amrnb", "amrwb", "libopencore_amrnb", "libopencore_amrwb", "evrc", "qcelp", "sipr", "speex"),
        *("opus", "libopus", "vorbis", "flac", "alac", "wavpack", "sbc", "aac", "aac_latm", "ac3", "eac3"),
        *("mp1", "mp1float", "mp2", "mp2float", "mp3", "mp3float"),
        *("wmav1", "wmav2", "wmavoice", "wmapro", "wmalossless"),
    )
)
ALLOWED = ",".join(sorted(DECODERS))
"""As the option `codec_whitelist` of a format context takes them."""

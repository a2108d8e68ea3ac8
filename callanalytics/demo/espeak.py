"""A program of its own: text lines in, speech out, by the espeak-ng shared library.

It runs as a child process (`synthetic_voices.py` starts it) for three reasons: espeak-ng calls exit() when it
does not like its data, it is not thread safe, and it holds its data path in a 160-byte buffer. The
child's working folder is the one that holds `espeak-ng-data`, so that the path is always short.
It imports nothing but the standard library.

In: one JSON object on stdin, {"library": path, "lines": [{"voice", "rate_wpm", "pitch", "pitch_range",
"text"}]}. Out on stdout, little-endian: uint32 sampling rate, then for each line a uint32 number of
samples and that many int16 samples. Constants and signatures: espeak-ng/speak_lib.h of espeak-ng 1.52.
"""

from __future__ import annotations

import ctypes
import json
import struct
import sys

_SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples come to the callback before espeak_Synth returns
_DONT_EXIT = 0x8000  # espeakINITIALIZE_DONT_EXIT
_UTF8 = 1  # espeakCHARS_UTF8
_SEED = 1
_RATE, _PITCH, _RANGE = 1, 3, 4  # espeak_PARAMETER
_SynthCallback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def main() -> int:
    """Speak every line of stdin to stdout; the exit status is 1 after a message on stderr."""
    request = json.load(sys.stdin)
    espeak = ctypes.CDLL(request["library"])
    espeak.espeak_SetSynthCallback.argtypes = [_SynthCallback]
    espeak.espeak_SetSynthCallback.restype = None
    espeak.espeak_Synth.argtypes = [
        *(ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int),
        *(ctypes.c_uint, ctypes.c_uint, ctypes.c_void_p, ctypes.c_void_p),
    ]
    espeak.espeak_ng_SetRandSeed.argtypes = [ctypes.c_long]
    rate_hz = espeak.espeak_Initialize(_SYNCHRONOUS, 0, b".", _DONT_EXIT)
    if rate_hz <= 0:
        print(f"espeak-ng found no usable espeak-ng-data in its working folder ({rate_hz})", file=sys.stderr)
        return 1

    pcm = bytearray()

    def collect(samples: ctypes._Pointer[ctypes.c_short], n_samples: int, _events: int | None) -> int:
        if samples and n_samples > 0:
            pcm.extend(ctypes.string_at(samples, n_samples * 2))
        return 0

    callback = _SynthCallback(collect)  # kept: ctypes does not hold it for us
    espeak.espeak_SetSynthCallback(callback)
    out = sys.stdout.buffer
    out.write(struct.pack("<I", rate_hz))
    for line in request["lines"]:
        if espeak.espeak_SetVoiceByName(line["voice"].encode()) != 0:
            print(f"espeak-ng has no voice {line['voice']!r}", file=sys.stderr)
            return 1
        # A new voice resets the parameters, so they are set after it.
        for parameter, key in ((_RATE, "rate_wpm"), (_PITCH, "pitch"), (_RANGE, "pitch_range")):
            espeak.espeak_SetParameter(parameter, line[key], 0)
        # The breath of a voice is made of chance, which would be another at every start.
        espeak.espeak_ng_SetRandSeed(_SEED)
        text = line["text"].encode()
        pcm.clear()
        status = espeak.espeak_Synth(text, len(text) + 1, 0, 1, 0, _UTF8, None, None)
        if status != 0:
            print(f"espeak-ng could not speak {line['text']!r} (status {status})", file=sys.stderr)
            return 1
        out.write(struct.pack("<I", len(pcm) // 2))
        out.write(pcm)
    return 0


if __name__ == "__main__":
    sys.exit(main())

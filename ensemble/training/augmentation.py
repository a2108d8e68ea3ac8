"""Augmentation of training waveforms: other voices, rooms, noise and telephone channels.

Speed, pitch, stretch, reverberation, noise, babble and the telephone chain, each with its own
probability and all drawn from a seed. The training cache holds :func:`augment` for a list of seeds and
nothing else. What changes spectrograms at every step is in :mod:`ensemble.training.examples`.

Sources: speed change (Ko et al. 2015); telephone chain (ITU-T G.712, G.711, GSM 06.10; level by P.56 in
the simple form of the active part's RMS); codings of recorders by FFmpeg's libraries.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class AugmentSettings:
    """How probable each change of the waveform is; 0 switches it off."""

    speed: float = 0.5
    pitch: float = 0.25
    stretch: float = 0.25
    reverb: float = 0.3
    noise: float = 0.4
    babble: float = 0.25
    telephone: float = 0.75
    packet_loss: float = 0.15
    gain: float = 1.0
    agc: float = 0.3
    """Gain control: takes 20 to 80 % of a clip's distance in dB from the level of its channel."""
    speed_range: float = 0.10
    pitch_semitones: float = 2.0
    stretch_range: float = 0.15
    snr_low_db: float = 5.0
    snr_high_db: float = 30.0
    codings: tuple[str, ...] = ()
    """Names of CODINGS: every channel goes through one of them at last, as a recorder keeps it."""


CLEAN = AugmentSettings(
    speed=0, pitch=0, stretch=0, reverb=0, noise=0, babble=0, telephone=0, packet_loss=0, gain=0, agc=0
)
"""Every switch off: :func:`augment` returns the samples unchanged."""

TELEPHONE = replace(CLEAN, telephone=1.0)
"""The telephone chain alone."""

CODINGS = {
    "mp3-8": ("libmp3lame", "mp3", 8_000),
    "mp3-16": ("libmp3lame", "mp3", 16_000),
    "opus-8": ("libopus", "libopus", 8_000),
    "amr-5.9": ("libopencore_amrnb", "libopencore_amrnb", 5_900),
    "amr-12.2": ("libopencore_amrnb", "libopencore_amrnb", 12_200),
}
"""Encoder, decoder and bits a second of what recorders keep speech in; ``gsm`` is beside them."""


def coded_speech(sample_rate_hz: int) -> AugmentSettings:
    """Weaker changes, then one coding: those that are on this machine and take this rate."""
    names = ("gsm", *CODINGS) if sample_rate_hz == 8000 else ("mp3-16", "opus-8")
    weak = {"speed": 0.3, "pitch": 0.15, "stretch": 0.15, "reverb": 0.15, "noise": 0.3, "babble": 0.1}
    there = tuple(name for name in names if name == "gsm" or _is_here(CODINGS[name][0]))
    return AugmentSettings(telephone=0.5, packet_loss=0.0, codings=there, **weak)


def _is_here(encoder: str) -> bool:
    from av.codec.codec import Codec, UnknownCodecError

    try:
        Codec(encoder, "w")
    except UnknownCodecError:  # another build of FFmpeg's libraries
        return False
    return True


def augment(
    waveform: Float,
    settings: AugmentSettings,
    channel_seed: int,
    clip_seed: int,
    babble: Sequence[Float] = (),
    sample_rate_hz: int = 8000,
    channel_rms: float | None = None,
) -> Float:
    """Change one clip to another voice in another channel; float32 (about as long as ``waveform``,).

    Args:
        waveform: float32 (n,) in [-1, 1].
        settings: Probability and size of each change.
        channel_seed: Draws what belongs to a channel or a voice (codec, band, noise level, reverberation,
            speed, pitch): clips of one speaker given the same seed share a channel, as in a call.
        clip_seed: Draws what differs from clip to clip (noise, babble, lost packets).
        babble: Audio that babble is made of.
        sample_rate_hz: Of ``waveform`` and ``babble``.
        channel_rms: Speech level of everything in that channel (:func:`channel_level`): noise and the
            telephone's level are set once for it, so that shouting stays louder than sighing, as in a call.
            None: of this clip alone.
    """
    channel = np.random.default_rng(channel_seed)
    clip = np.random.default_rng(clip_seed)
    # Every draw happens whether or not the switch is on, so that one switch does not change another's draw.
    chance = dict(zip(_SWITCHES, channel.random(len(_SWITCHES)), strict=True))
    speed, pitch, stretch = channel.uniform(-1, 1, 3)
    snr_db, babble_snr_db = channel.uniform(settings.snr_low_db, settings.snr_high_db, 2)
    reverberation_s, slope = channel.uniform(0.15, 0.6), channel.uniform(-1, 1)
    gain_db = channel.uniform(-12, 6)
    codec = ("mu-law", "a-law", "gsm", "none")[channel.choice(4, p=(0.4, 0.2, 0.3, 0.1))]
    low_hz, high_hz, loss = channel.uniform(150, 350), channel.uniform(3100, 3700), channel.uniform(0.0, 0.1)
    levelling = channel.uniform(0.2, 0.8)
    coding = settings.codings[int(channel.random() * len(settings.codings))] if settings.codings else None

    def on(switch: str) -> bool:
        return bool(chance[switch] < getattr(settings, switch))

    samples = waveform.astype(np.float32, copy=False)
    if channel_rms is not None and on("agc"):
        channel_rms = float(speech_rms(samples) ** levelling * channel_rms ** (1 - levelling))
    if on("speed"):
        samples = change_speed(samples, 1 + settings.speed_range * speed)
    if on("pitch"):
        factor = 2 ** (settings.pitch_semitones * pitch / 12)
        samples = change_speed(stretch_time(samples, 1 / factor), factor)
    if on("stretch"):
        samples = stretch_time(samples, 1 + settings.stretch_range * stretch)
    if on("reverb"):
        samples = reverberate(samples, reverberation_s, clip, sample_rate_hz)
    if on("noise"):
        samples = add_at_snr(samples, coloured_noise(samples.size, slope, clip), snr_db, channel_rms)
    if on("babble") and len(babble):
        voices = [babble[i] for i in clip.integers(0, len(babble), 4)]
        samples = add_at_snr(samples, sum_voices(voices, samples.size, clip), babble_snr_db, channel_rms)
    if on("telephone"):
        samples = telephone(samples, codec, low_hz, high_hz, sample_rate_hz, channel_rms=channel_rms)
    if on("packet_loss"):
        samples = lose_packets(samples, loss, clip, sample_rate_hz)
    if on("gain"):
        samples = np.clip(samples * np.float32(10 ** (gain_db / 20)), -1, 1)
    if coding is not None:
        samples = recoded(samples.astype(np.float32, copy=False), coding, sample_rate_hz)
    return samples.astype(np.float32, copy=False)


_SWITCHES = (
    *("speed", "pitch", "stretch", "reverb", "noise", "babble"),
    *("telephone", "packet_loss", "gain", "agc"),
)


def change_speed(samples: Float, factor: float) -> Float:
    """Play ``factor`` times as fast: shorter and higher; band-limited by FFT resampling."""
    from scipy.fft import irfft, next_fast_len, rfft

    n_out = max(1, round(samples.size / factor))
    # Padding to a fast length keeps prime sizes from costing a second each; the ratio stays exact to 1e-3.
    n_in = next_fast_len(samples.size + 64, real=True)
    n_grid = max(1, round(n_in * n_out / samples.size))
    spectrum = rfft(np.pad(samples, (0, n_in - samples.size)))
    kept = np.zeros(n_grid // 2 + 1, dtype=spectrum.dtype)
    n_kept = min(kept.size, spectrum.size)
    kept[:n_kept] = spectrum[:n_kept]
    out: Float = (irfft(kept, n=n_grid) * (n_grid / n_in)).astype(np.float32)
    return out[:n_out] if out.size >= n_out else np.pad(out, (0, n_out - out.size))


def stretch_time(samples: Float, rate: float) -> Float:
    """``rate`` times as fast at the same pitch: a phase vocoder (Flanagan and Golden 1966)."""
    from scipy.fft import irfft, rfft

    n_fft, hop = 256, 64
    if samples.size < 2 * n_fft:
        return samples
    hann = np.hanning(n_fft + 1)[:-1].astype(np.float32)
    frames = np.lib.stride_tricks.sliding_window_view(np.pad(samples, n_fft // 2), n_fft)[::hop] * hann
    spectrum = rfft(frames, axis=1)
    at = np.arange(0, len(spectrum) - 1, rate)
    before = at.astype(int)
    part = (at - before)[:, None]
    magnitude = (1 - part) * np.abs(spectrum[before]) + part * np.abs(spectrum[before + 1])
    expected = 2 * np.pi * hop * np.arange(spectrum.shape[1]) / n_fft
    phases = np.angle(spectrum)
    advance = phases[before + 1] - phases[before] - expected
    advance += expected - 2 * np.pi * np.round(advance / (2 * np.pi))
    phase = phases[0] + np.concatenate([np.zeros((1, advance.shape[1])), np.cumsum(advance, axis=0)[:-1]])
    pieces = irfft(magnitude * np.exp(1j * phase), n=n_fft, axis=1) * hann
    return _overlap_add(pieces, hann**2, hop)[n_fft // 2 : n_fft // 2 + round(samples.size / rate)]


def _overlap_add(pieces: NDArray[np.float64], weights: Float, hop: int) -> Float:
    n_pieces, n_fft = pieces.shape
    n_out = (n_pieces - 1) * hop + n_fft
    positions = (np.arange(n_pieces)[:, None] * hop + np.arange(n_fft)).ravel()
    signal = np.bincount(positions, weights=pieces.ravel(), minlength=n_out)
    norm = np.bincount(positions, weights=np.tile(weights, n_pieces), minlength=n_out)
    return (signal / np.maximum(norm, 1e-3)).astype(np.float32)


def reverberate(
    samples: Float, reverberation_s: float, rng: np.random.Generator, sample_rate_hz: int = 8000
) -> Float:
    """Convolve with decaying noise (Polack 1988) of this reverberation time; the level is kept."""
    from scipy.signal import fftconvolve

    n = round(reverberation_s * sample_rate_hz)
    tail = rng.standard_normal(n) * np.exp(-6.9 * np.arange(n) / n) * 0.12
    tail[0] = 1.0
    wet = fftconvolve(samples, tail)[: samples.size]
    return _at_level(wet.astype(np.float32), speech_rms(samples))


def coloured_noise(n_samples: int, slope: float, rng: np.random.Generator) -> Float:
    """Noise whose power falls as frequency to the ``slope`` (1 pink, 0 white, -1 blue)."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = next_fast_len(n_samples, real=True)
    spectrum = rfft(rng.standard_normal(n).astype(np.float32))
    spectrum *= np.maximum(np.arange(spectrum.size), 1.0) ** (-slope / 2)
    noise: Float = irfft(spectrum, n=n)[:n_samples].astype(np.float32)
    return noise


def sum_voices(voices: Sequence[Float], n_samples: int, rng: np.random.Generator) -> Float:
    """Other people talking at once, each starting anywhere, equally loud."""
    total = np.zeros(n_samples, dtype=np.float32)
    for voice in voices:
        looped = np.resize(np.roll(voice, int(rng.integers(voice.size))), n_samples)
        total += _at_level(looped, 1.0)
    return total


def add_at_snr(samples: Float, noise: Float, snr_db: float, channel_rms: float | None = None) -> Float:
    """Speech with noise ``snr_db`` below ``channel_rms``, or below the level of its own active part."""
    return samples + _at_level(noise, (channel_rms or speech_rms(samples)) * 10 ** (-snr_db / 20))


def telephone(
    samples: Float,
    codec: str = "mu-law",
    low_hz: float = 300.0,
    high_hz: float = 3400.0,
    sample_rate_hz: int = 8000,
    level_dbov: float = -26.0,
    channel_rms: float | None = None,
) -> Float:
    """Level, band, codec: the telephone chain.

    ``codec`` is ``mu-law``, ``a-law`` (G.711), ``gsm`` (06.10 full rate) or ``none``.
    ``channel_rms`` is the level that is brought to ``level_dbov``: that of the whole channel
    (None: of these samples alone).
    """
    gain = 10 ** (level_dbov / 20) / max(channel_rms or speech_rms(samples), 1e-6)
    levelled = (samples * gain).astype(np.float32)
    sent = _band(levelled, low_hz, high_hz, sample_rate_hz)
    if codec == "none":
        return sent
    if codec == "gsm":
        return _gsm(sent, sample_rate_hz)
    return companded(sent, codec)


def _band(samples: Float, low_hz: float, high_hz: float, sample_rate_hz: int) -> Float:
    """G.712-like band by soft edges in the frequency domain (zero phase)."""
    from scipy.fft import irfft, next_fast_len, rfft

    n = next_fast_len(samples.size, real=True)
    hz = np.fft.rfftfreq(n, 1 / sample_rate_hz)
    edge = 1 / (1 + (low_hz / np.maximum(hz, 1)) ** 12) / (1 + (hz / high_hz) ** 40)
    passed: Float = irfft(rfft(samples, n=n) * edge.astype(np.float32), n=n)[: samples.size]
    return passed.astype(np.float32)


def companded(samples: Float, law: str) -> Float:
    """Through 8-bit G.711 and back; ``law`` is ``mu-law`` or ``a-law``."""
    x = np.clip(samples, -1, 1)
    size = np.abs(x)
    if law == "mu-law":
        code = np.round(np.log1p(255 * size) / np.log(256) * 127) / 127
        out = (256.0**code - 1) / 255
    else:
        a = 87.6
        curve = np.where(size < 1 / a, a * size, 1 + np.log(np.maximum(a * size, 1))) / (1 + np.log(a))
        code = np.round(curve * 127) / 127
        spread = code * (1 + np.log(a))
        out = np.where(spread < 1, spread, np.exp(spread - 1)) / a
    expanded: Float = (np.sign(x) * out).astype(np.float32)
    return expanded


def _gsm(samples: Float, sample_rate_hz: int) -> Float:
    import soundfile as sf

    file = io.BytesIO()
    sf.write(file, np.clip(samples, -1, 1), sample_rate_hz, format="WAV", subtype="GSM610")
    file.seek(0)
    decoded, _ = sf.read(file, dtype="float32")
    return np.pad(decoded, (0, max(samples.size - decoded.size, 0)))[: samples.size]


def recoded(samples: Float, coding: str, sample_rate_hz: int = 8000) -> Float:
    """Through an encoder and its decoder, in step with ``samples`` (n,) to within 6 ms.

    ``coding`` is ``gsm`` or a name of CODINGS.
    """
    if coding == "gsm":
        return _gsm(samples, sample_rate_hz)
    import av

    encoder, decoder, bit_rate = CODINGS[coding]
    encode: Any = av.CodecContext.create(encoder, "w")
    encode.format = encode.codec.audio_formats[0]
    decode: Any = av.CodecContext.create(decoder, "r")
    for context in (encode, decode):
        context.sample_rate, context.layout = sample_rate_hz, "mono"
    encode.bit_rate = bit_rate
    encode.open()
    decode.extradata = encode.extradata
    to_floats = av.AudioResampler("fltp", "mono", sample_rate_hz)
    # Half a second of silence pushes the last of the sound out of encoder and decoder.
    padded = np.pad(np.clip(samples, -1, 1), (0, sample_rate_hz // 2))
    padded = np.pad(padded, (0, -padded.size % encode.frame_size))
    packets = []
    to_own = av.AudioResampler(encode.format, "mono", sample_rate_hz)
    for start in range(0, padded.size, encode.frame_size):
        frame = av.AudioFrame.from_ndarray(padded[None, start : start + encode.frame_size], "fltp", "mono")
        frame.sample_rate, frame.pts = sample_rate_hz, start
        packets += [packet for own in to_own.resample(frame) for packet in encode.encode(own)]
    packets += encode.encode(None)
    found = [
        piece.to_ndarray()[0]
        for packet in (*packets, None)
        for frame in decode.decode(packet)
        for piece in to_floats.resample(frame)
    ]
    return np.concatenate(found)[: samples.size].astype(np.float32)


def lose_packets(samples: Float, share: float, rng: np.random.Generator, sample_rate_hz: int = 8000) -> Float:
    """Zero a ``share`` of the 20 ms packets."""
    n = round(0.02 * sample_rate_hz)
    kept = rng.random(-(-samples.size // n)) >= share
    return samples * np.repeat(kept, n)[: samples.size]


def channel_level(clips: Sequence[Float]) -> float:
    """Speech RMS of all ``clips`` of one channel together, each counted by its length."""
    power = np.array([speech_rms(clip) ** 2 for clip in clips])
    return float(np.sqrt(np.average(power, weights=[clip.size for clip in clips])))


def speech_rms(samples: NDArray[np.floating]) -> float:
    """RMS of the part within 30 dB of the loudest 20 ms (silence around a clip does not count)."""
    if samples.size < 160:
        return float(np.sqrt(np.mean(samples**2) + 1e-12))
    power = np.mean(samples[: samples.size // 160 * 160].reshape(-1, 160) ** 2, axis=1)
    return float(np.sqrt(np.mean(power[power >= power.max() * 1e-3]) + 1e-12))


def _at_level(samples: Float, rms: float) -> Float:
    return (samples * (rms / max(speech_rms(samples), 1e-6))).astype(np.float32)

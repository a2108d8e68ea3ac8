"""Features that heads are trained on: what frozen bodies pool of every clip, kept on disk.

They are extracted once, so that a training of heads takes minutes and one that was interrupted goes on with
what is there.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ensemble.corpora import Clip, decoded_clips, usable_clips_cached
from ensemble.corpora.clip import content_key
from ensemble.inference.device import read_head, voice_body
from ensemble.inference.ensemble import BATCH, Ensemble, in_batches
from ensemble.inference.shipped_networks import networks_folder
from ensemble.inference.spectrogram import KALDI_RATE_HZ, Spectra, voice_norm, voice_spectra
from ensemble.inference.vote import softmax
from ensemble.training.spectrogram_cache import (
    CACHE_FORMAT,
    View,
    ViewCache,
    ViewSettings,
    augmented,
    standard_views,
)

Made = TypeVar("Made")
Float = NDArray[np.float32]
Int = NDArray[np.int64]

VIEWS = ("telephone", "clean")
"""Views in which the clips of a speaker share a channel, so that they say something of each other."""
Head = tuple[Float, Float]
NO_VOICE = voice_spectra(())
VOICE_WIDTH, VOICE_HOP_S = 1024, 0.01


@dataclass(frozen=True, slots=True)
class Features:
    """Pooled features (n, width) of each member in one view, seconds of speech (n,) and voices (n,)."""

    pooled: tuple[Float, ...]
    alone: Float
    """Members' own softmax, (m, n, k)."""
    seconds: NDArray[np.float64]
    voices: tuple[str, ...]

    def only(self, rows: Int) -> Features:
        """Those of some clips."""
        pooled, voices = tuple(each[rows] for each in self.pooled), tuple(self.voices[i] for i in rows)
        return Features(pooled, self.alone[:, rows], self.seconds[rows], voices)


def rows_by_voice(voices: Sequence[str], rows: Int) -> dict[str, Int]:
    """Those of ``rows`` that are of each voice, voices sorted."""
    found: dict[str, list[int]] = {}
    for i in rows.tolist():
        found.setdefault(voices[i], []).append(i)
    return {voice: np.array(own, dtype=np.int64) for voice, own in sorted(found.items())}


def in_threads(n_threads: int, make: Callable[[str], Made], names: Sequence[str]) -> list[Made]:
    """What ``make`` gives for every name, in order; networks and resampling leave other threads free."""
    with ThreadPoolExecutor(n_threads) as pool:
        return list(pool.map(make, names))


def features_of(
    ensemble: Ensemble,
    of_voice: Head | None,
    clips: Sequence[Clip],
    names: Sequence[str],
    cache: Path,
    say: Callable[[str], None],
) -> tuple[tuple[Clip, ...], list[tuple[View, Features]]]:
    """The usable ones of some clips, and their spectrograms and features in each view.

    Of ordinary talk they are the same views as of corpora: nothing but how people speak parts the two.
    """
    kept, waves, _ = usable_clips_cached(clips, ensemble.sample_rate_hz, cache)
    everybody = frozenset(clip.speaker for clip in kept)
    made = ViewCache(kept, ensemble.front, cache, everybody)
    voices = rows_by_voice([clip.speaker for clip in kept], np.arange(len(kept)))
    views = [made.read_or_extract(_settings_of(name), waves) for name in names]
    return tuple(kept), [
        (view, pooled_features(ensemble, of_voice, kept, view, name, voices, cache, say))
        for view, name in zip(views, names, strict=True)
    ]


def _settings_of(name: str) -> ViewSettings:
    return next(view for view in standard_views(0, 0) if view.name == name)


def _trained(ensemble: Ensemble) -> Ensemble:
    """The ensemble without the voice network's member."""
    members = tuple(
        m for m, is_voice in zip(ensemble.members, ensemble.on_voice, strict=True) if not is_voice
    )
    return replace(ensemble, members=members, on_voice=(False,) * len(members))


def voice_head(folder: Path, ensemble: Ensemble) -> Head | None:
    """Own head of the voice network's member, weights (k, 1024) and biases (k,), where there is one."""
    entries: Any = ensemble.card["members"]
    files = [folder / entry["safetensors"] for entry in entries if "body_sha256" in entry]
    return read_head(files[0]) if files else None


def voice_features(clips: Sequence[Clip], name: str, cache: Path, say: Callable[[str], None]) -> Float:
    """What the voice network pools (n, 1024) of all clips in a view; kept in ``cache``."""
    settings = _settings_of(name)
    made = networks_folder().name  # with the hash of weights and definition
    depends_on = json.dumps([CACHE_FORMAT, content_key(clips), settings.key(), made], sort_keys=True)
    path = cache / f"voice-{name}-{hashlib.sha256(depends_on.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        say(f"Extracting features of {len(clips)} clips by the voice network ({name}) ...")
        waves = decoded_clips(clips, KALDI_RATE_HZ)
        changed = list(augmented(clips, waves, settings, KALDI_RATE_HZ, frozenset()))
        body, nothing = voice_body(1), np.zeros((0, 0), dtype=np.float32)
        member = {0: lambda mel, mask: (nothing, body(mel, mask))}
        found = np.zeros((len(clips), VOICE_WIDTH), dtype=np.float32)
        for rows, share, _, _, pooled in in_batches(voice_spectra(changed), member, BATCH, VOICE_HOP_S):
            np.add.at(found, rows, pooled * share)
        unfinished = path.with_suffix(".part.npy")
        np.save(unfinished, found.astype(np.float16))
        unfinished.replace(path)  # a kill at any moment leaves no half of it
    kept: Float = np.load(path).astype(np.float32)
    return kept


def pooled_features(
    ensemble: Ensemble,
    of_voice: Head | None,
    clips: Sequence[Clip],
    view: View,
    name: str,
    voices: dict[str, Int],
    cache: Path,
    say: Callable[[str], None],
    *,
    each_alone: bool = False,
) -> Features:
    """Pooled features of all clips in a view, kept in ``cache``.

    Spectrograms are normalised by all the speaker's clips, or by the clip itself with ``each_alone``.
    """
    entries: Any = ensemble.card["members"]
    bodies = [entry["onnx_sha256"] for entry in entries if "body_sha256" not in entry]
    mark = hashlib.sha256(view.n_active.tobytes() + view.total.tobytes()).hexdigest()
    depends_on = [
        content_key(clips),
        name,
        mark,
        bodies,
        ensemble.card["reference"],
        ensemble.front.to_card(),
        *(["alone"] if each_alone else []),
    ]
    key = hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()[:16]
    path = cache / f"pooled-{name}-{key}.npz"
    seconds = view.n_active * ensemble.front.hop_s
    by_clip = tuple(clip.speaker for clip in clips)
    if path.is_file():
        say(f"Features of {len(clips)} clips ({name}) are there from before.")
    else:
        say(f"Extracting features of {len(clips)} clips ({name}) ...")
        keys = [str(i) for i in range(len(clips))] if each_alone else by_clip
        together = {key: np.array([i]) for i, key in enumerate(keys)} if each_alone else voices
        norms = {
            key: voice_norm(view.statistics(rows), ensemble.reference, ensemble.front)
            for key, rows in together.items()
        }
        lengths = np.diff(view.starts).tolist()

        def mel(i: int) -> Float:
            mean, deviation = norms[keys[i]]
            return (view.clip(i) - mean) / deviation

        mels = Spectra(lengths, mel)
        logits, features = _trained(ensemble).pooled(mels, NO_VOICE)
        unfinished = path.with_suffix(".part.npz")
        arrays = {f"pooled-{m}": rows.astype(np.float16) for m, rows in enumerate(features)}
        np.savez(unfinished, alone=softmax(logits), **arrays)  # type: ignore[arg-type]
        unfinished.replace(path)  # a kill at any moment leaves no half of it
    with np.load(path) as held:
        pooled = [held[f"pooled-{m}"].astype(np.float32) for m in range(len(bodies))]
        alone = list(held["alone"])
    if of_voice is not None:
        weight, bias = of_voice
        place = ensemble.on_voice.index(True)
        pooled.insert(place, voice_features(clips, name, cache, say))
        alone.insert(place, softmax(pooled[place] @ weight.T + bias))
    return Features(tuple(pooled), np.stack(alone), seconds, by_clip)


def clip_alone(ensemble: Ensemble, telephone: View, view: Features, rows: Int) -> Float:
    """Members' own softmax (m, n, k) of clips of whose speaker nothing is known."""

    def mel(i: int) -> Float:
        mean, deviation = voice_norm(
            telephone.statistics(rows[i : i + 1]), ensemble.reference, ensemble.front
        )
        return (telephone.clip(rows[i]) - mean) / deviation

    logits, _ = _trained(ensemble).pooled(Spectra(np.diff(telephone.starts)[rows].tolist(), mel), NO_VOICE)
    alone = view.alone[:, rows].copy()  # the voice network sees no speaker's statistics
    alone[~np.array(ensemble.on_voice)] = softmax(logits)
    return alone

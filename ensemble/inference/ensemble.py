"""A promoted ensemble at work: waveforms in, calibrated votes out.

On the CPU the members run in ONNX Runtime and torch is never imported; on
another device they run in torch from the same weights. A parity test guards
the two.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ensemble.inference.card import checked_file, fingerprint, read_card
from ensemble.inference.device import CPU, onnx_member, prepare_device, torch_member, voice_member
from ensemble.inference.spectrogram import (
    KALDI_RATE_HZ,
    FrontEnd,
    Reference,
    Spectra,
    Spectrograms,
    Statistics,
    check_waveform,
    extract,
    voice_norm,
    voice_spectra,
)
from ensemble.inference.vote import (
    NOT_SPEECH,
    TOO_SHORT,
    Calibration,
    CentredHeads,
    Rule,
    Thresholds,
    Votes,
    has_opinion,
    load_heads,
    softmax,
    vote,
)
from ensemble.labels import EMOTIONS
from ensemble.model_errors import ModelIncompatible

if TYPE_CHECKING:
    from ensemble.inference.device import Member

Float = NDArray[np.float32]
Bool = NDArray[np.bool_]

SHIPPED = Path(__file__).parents[1] / "weights"
BATCH, GPU_BATCH = 16, 64
"""Pieces in a batch. More gain nothing on a processor. On a GPU several workers share the
memory: 64 pieces of 4 s are some 200 MB a layer."""
LONGEST_PIECE_S = 4.0
"""Longer waveforms are classified in equal pieces of at most this and the logits averaged."""


@dataclass(frozen=True, slots=True)
class Ensemble:
    """Loaded members and everything needed to vote. Made by :func:`load_ensemble`.

    ``ensemble_id`` is a fingerprint of weights and settings: two ensembles
    that could ever answer differently have different ones.
    """

    ensemble_id: str
    labels: tuple[str, ...]
    member_names: tuple[str, ...]
    card: Mapping[str, object]
    front: FrontEnd
    reference: Reference
    temperature: float
    thresholds: Thresholds
    rule: Rule
    weights: NDArray[np.float64]
    members: tuple[Member, ...]
    on_voice: tuple[bool, ...]
    """Which members are heads on the voice network: they see :func:`voice_spectra`."""
    heads: CentredHeads | None = None
    """None: an ensemble whose members know a voice by its band statistics only."""
    speaker_norm: bool = True
    """False: trained on every clip normalised alone, so that nothing is made of who speaks."""
    trained_alone: Calibration | None = None
    """Of the vote without the members on the voice network; None: they are always asked."""
    batch: int = BATCH

    @property
    def sample_rate_hz(self) -> int:
        """Rate that waveforms must have."""
        return self.front.sample_rate_hz

    def statistics(self, waveforms: Sequence[Float]) -> Statistics:
        """Statistics of one voice from some of its waveforms; two of them add up with ``+``."""
        zeros = np.zeros(self.front.n_mels)
        known = (extract(check_waveform(w), self.front)[1] for w in waveforms)
        return sum(known, Statistics(0.0, zeros, zeros))  # without any, the reference is used as it is

    def vote(
        self,
        waveforms: Sequence[Float],
        speakers: Sequence[Hashable] | None = None,
        *,
        abstain: bool = True,
        neutral_share: float | None = None,
        known: Mapping[Hashable, Statistics] | None = None,
        by_all: Sequence[bool] | None = None,
    ) -> Votes:
        """One vote per waveform; the others of a batch matter through the statistics of a speaker only.

        Args:
            waveforms: float32 1-D at ``sample_rate_hz`` in [-1, 1].
            speakers: Waveforms of equal ``speakers[i]`` are one voice: they are normalised together and
                compared with the calmest of them (:mod:`ensemble.inference.vote`). None takes each alone
                (statistics of that clip, shrunk to the reference).
            abstain: Whether thresholds apply.
            neutral_share: Share of neutral speech where the waveforms come from
                (:func:`ensemble.inference.vote.expect`); None: as balanced as the training.
            known: Statistics of a speaker from elsewhere (:meth:`statistics`), used instead.
            by_all: Which waveforms all members are asked of; of the others those on the voice network, which
                cost as much as the rest together, are not, where the card has a calibration for that. One
                answer for all of a speaker's. None: all.

        Raises:
            WaveformError: for audio that is not finite.
            ValueError: when the lengths of the two sequences differ.
        """
        n = len(waveforms)
        if speakers is not None and len(speakers) != n:
            raise ValueError(f"{len(speakers)} speakers for {n} waveforms; give one each")
        keys: Sequence[Hashable] = range(n)
        if speakers is not None and self.speaker_norm:
            keys, known = speakers, known or {}
        else:
            known = {}
        waveforms = [check_waveform(w) for w in waveforms]
        extracted = Spectrograms(waveforms, self.front)
        quiet = [self._is_quiet(w) for w in waveforms]
        norms = self._norms(keys, extracted.statistics, quiet, known)
        withheld = tuple(map(self._withheld, waveforms, extracted.statistics, quiet)) if abstain else None
        mels = Spectra(
            extracted.n_frames, lambda i: (extracted.mel(i) - norms[keys[i]][0]) / norms[keys[i]][1]
        )
        told = np.ones(n, dtype=bool)
        if by_all is not None and self.trained_alone is not None:
            told = np.array(by_all, dtype=bool)
        asked = told | ~np.array(self.on_voice)[:, None]
        logits, offsets = self.answers(mels, None)
        of_voice = self.answers(None, voice_spectra([waveforms[i] for i in np.flatnonzero(told)]))
        for whole, more in zip((logits, offsets), of_voice, strict=True):
            whole[:, told] += more
        seconds = self.seconds(extracted.statistics) * ~np.array(quiet, dtype=bool)
        voices = keys if speakers is not None and self.speaker_norm else None
        probabilities, centred = self.by_voice(logits, offsets, voices, seconds, asked=asked)
        return self.vote_on(
            probabilities, abstain=abstain, withheld=withheld, neutral_share=neutral_share, centred=centred
        )

    def vote_on(
        self,
        probabilities: Float,
        *,
        abstain: bool = True,
        withheld: tuple[str | None, ...] | None = None,
        neutral_share: float | None = None,
        centred: Bool | None = None,
    ) -> Votes:
        """Votes on ready member probabilities (m, n, k); ``withheld`` as in :func:`vote`.

        ``centred`` (n,): which are of the centred heads, that have a temperature of their own.
        """
        n = probabilities.shape[1]
        is_centred = np.zeros(n, dtype=bool) if self.heads is None or centred is None else centred
        of_heads = self.temperature if self.heads is None else self.heads.temperature
        temperature = np.where(is_centred, of_heads, self.temperature)
        thresholds = [self.thresholds] * n
        if (alone := self.trained_alone) is not None:
            without = ~has_opinion(probabilities)[np.array(self.on_voice)].any(axis=0)
            of_alone = np.where(is_centred, alone.heads_temperature, alone.temperature)
            temperature = np.where(without, of_alone, temperature)
            thresholds = [alone.thresholds if is_so else self.thresholds for is_so in without]
        return vote(
            probabilities,
            self.labels,
            self.member_names,
            temperature=temperature,
            thresholds=thresholds if abstain else None,
            rule=self.rule,
            weights=self.weights,
            withheld=withheld,
            neutral_share=neutral_share,
        )

    def seconds(self, statistics: Sequence[Statistics]) -> NDArray[np.float64]:
        """Seconds of speech (n,) by the statistics of each waveform."""
        return np.array([each.n_frames * self.front.hop_s for each in statistics], dtype=np.float64)

    def by_voice(
        self,
        logits: NDArray[np.float64],
        offsets: NDArray[np.float64],
        voices: Sequence[Hashable] | None,
        seconds: NDArray[np.float64],
        calm: Bool | None = None,
        asked: Bool | None = None,
    ) -> tuple[Float, Bool]:
        """Softmax (m, n, k) of the centred heads where a voice has a baseline, else of the members' own.

        ``logits`` and ``offsets`` are of :meth:`answers`; ``voices``, ``seconds`` and ``calm`` are those of
        :meth:`CentredHeads.centre`. ``asked`` (m, n): who has an opinion of what (None: all of all). The
        other return value, (n,), says which are of the centred heads.
        """
        asked = np.ones(logits.shape[:2], dtype=bool) if asked is None else asked
        alone = softmax(logits) * asked[:, :, None]
        if self.heads is None or voices is None or "neutral" not in self.labels:
            return alone, np.zeros(logits.shape[1], dtype=bool)
        likely = alone[:, :, self.labels.index("neutral")].sum(axis=0, dtype=np.float64)
        neutral = likely / np.maximum(asked.sum(axis=0), 1)
        known, centred = self.heads.centre(offsets, seconds, neutral, voices, calm)
        return np.where(centred[None, :, None], softmax(known) * asked[:, :, None], alone), centred

    def answers(
        self, mels: Spectra | None, voice: Spectra | None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Logits of each member and offsets of its centred head, both (m, n, k), as of :meth:`_forward`.

        Members whose spectrograms are None answer 0, so that the answers to the two kinds add up.
        """
        n = next(len(seen.n_frames) for seen in (mels, voice) if seen is not None)
        logits = np.zeros((len(self.members), n, len(self.labels)), dtype=np.float64)
        offsets = np.zeros_like(logits)
        for rows, share, m, answers, pooled in self._forward(mels, voice):
            np.add.at(logits[m], rows, answers * share)
            if self.heads is not None:
                np.add.at(offsets[m], rows, self.heads.offsets(m, pooled) * share)
        return logits, offsets

    def pooled(self, mels: Spectra, voice: Spectra) -> tuple[NDArray[np.float64], tuple[Float, ...]]:
        """Logits (m, n, k) and each member's pooled features (n, width), of all pieces in the mean.

        ``mels`` are normalised; ``voice`` is of :func:`voice_spectra`.
        """
        n = len(mels.n_frames)
        logits = np.zeros((len(self.members), n, len(self.labels)), dtype=np.float64)
        found: dict[int, Float] = {}
        for rows, share, m, answers, pooled in self._forward(mels, voice):
            np.add.at(logits[m], rows, answers * share)
            whole = found.setdefault(m, np.zeros((n, pooled.shape[1]), dtype=np.float32))
            np.add.at(whole, rows, pooled * share)
        return logits, tuple(found[m] for m in range(len(self.members)))

    def _forward(
        self, mels: Spectra | None, voice: Spectra | None
    ) -> Iterator[tuple[list[int], Float, int, Float, Float]]:
        """Run the members over the spectrograms that each sees, in batches of like length.

        Yields:
            Waveforms of a batch, the share (n, 1) that each piece is of its waveform, the member, its logits
            (n, k) and its pooled features (n, width).
        """
        for seen, on_voice in ((mels, False), (voice, True)):
            chosen = {m: self.members[m] for m, is_so in enumerate(self.on_voice) if is_so == on_voice}
            if chosen and seen is not None:
                yield from in_batches(seen, chosen, self.batch, self.front.hop_s)

    def _norms(
        self,
        keys: Sequence[Hashable],
        statistics: Sequence[Statistics],
        quiet: Sequence[bool],
        known: Mapping[Hashable, Statistics],
    ) -> dict[Hashable, tuple[Float, Float]]:
        """(mean, deviation) by voice; without what is too quiet to be speech, where the voice also speaks."""
        speaking = {key for key, is_quiet in zip(keys, quiet, strict=True) if not is_quiet}
        gathered: dict[Hashable, Statistics] = {}
        for key, each, is_quiet in zip(keys, statistics, quiet, strict=True):
            if not is_quiet or key not in speaking:
                gathered[key] = gathered[key] + each if key in gathered else each
        return {
            key: voice_norm(known.get(key, own), self.reference, self.front) for key, own in gathered.items()
        }

    def _is_quiet(self, waveform: Float) -> bool:
        n = max(1, round(0.02 * self.sample_rate_hz))
        whole = waveform[: waveform.size // n * n].reshape(-1, n)
        power = float(np.mean(whole.astype(np.float64) ** 2, axis=1).max()) if whole.size else 0.0
        return bool(10 * np.log10(power + 1e-12) < self.thresholds.quietest_db)

    def _withheld(self, waveform: Float, statistics: Statistics, is_quiet: bool) -> str | None:
        if waveform.size < self.thresholds.shortest_s * self.sample_rate_hz:
            return TOO_SHORT
        if is_quiet:
            return NOT_SPEECH
        return TOO_SHORT if statistics.n_frames * self.front.hop_s < self.thresholds.shortest_s / 2 else None


def in_batches(
    seen: Spectra, members: Mapping[int, Member], n_at_once: int, hop_s: float
) -> Iterator[tuple[list[int], Float, int, Float, Float]]:
    """Run members, by their number, over spectrograms in batches of like length; yields as ``_forward``.

    Spectrograms longer than ``LONGEST_PIECE_S`` are run in pieces of frames ``hop_s`` apart.
    """
    n_frames, longest = seen.n_frames, round(LONGEST_PIECE_S / hop_s)
    pieces = [
        (i, int(piece[0]) if len(piece) else 0, len(piece))
        for i, n in enumerate(n_frames)
        for piece in np.array_split(np.arange(n), max(1, -(-n // longest)))
    ]
    n_pieces = np.bincount([i for i, _, _ in pieces], minlength=len(n_frames))
    pieces.sort(key=lambda item: item[2])
    for start in range(0, len(pieces), n_at_once):
        part = pieces[start : start + n_at_once]
        rows = [i for i, _, _ in part]
        found = [seen.of(i)[first : first + length] for i, first, length in part]
        batch = np.zeros((len(part), part[-1][2], found[0].shape[1]), dtype=np.float32)
        mask = np.zeros(batch.shape[:2], dtype=np.float32)
        for row, piece in enumerate(found):
            batch[row, : len(piece)] = piece
            mask[row, : len(piece)] = 1
        share = (1 / n_pieces[rows])[:, None].astype(np.float32)
        for m, member in members.items():
            yield rows, share, m, *member(batch, mask)


def load_ensemble(path: Path | None = None, *, n_threads: int = 1, device: str = CPU) -> Ensemble:
    """Load the ensemble in folder ``path`` (None: the shipped one).

    ``n_threads`` are used inside one member; ``device`` other than ``cpu`` runs in torch there.

    Raises:
        ModelMissing: when there is no card or a file of it is gone.
        ModelIncompatible: when a file is not the one the card was written for, or the card is of another
            version of this code.
        DeviceMissing: when torch does not see the device.
    """
    prepare_device(device)
    folder = path or SHIPPED
    card = read_card(folder)
    try:
        return _load(folder, card, n_threads, device)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        # A card is written by a training; one that was changed by hand can hold anything.
        raise ModelIncompatible(
            f"{folder / 'card.json'}: an entry is not what it should be ({type(error).__name__}: {error}); "
            "restore the card or train again"
        ) from error


def _load(folder: Path, card: dict[str, Any], n_threads: int, device: str) -> Ensemble:
    front = FrontEnd.from_card(card["front_end"])
    labels, entries = tuple(card["labels"]), card["members"]
    if not set(labels) <= set(EMOTIONS):
        raise ModelIncompatible(
            f"{folder}: labels {sorted(set(labels) - set(EMOTIONS))} are not known emotions"
        )
    on_voice = tuple("body_sha256" in entry for entry in entries)
    if any(on_voice) and front.sample_rate_hz != KALDI_RATE_HZ:
        raise ModelIncompatible(
            f"{folder}: a member on the voice network needs {KALDI_RATE_HZ} Hz, not {front.sample_rate_hz}"
        )

    def load(entry: dict[str, Any], is_head: bool) -> Member:
        kind = "onnx" if device == CPU and not is_head else "safetensors"
        file = checked_file(folder, entry[kind], entry[f"{kind}_sha256"])
        if is_head:
            return voice_member(file, entry["body_sha256"], n_threads)
        if device == CPU:
            return onnx_member(file, n_threads)
        return torch_member(file, entry["architecture"], front.n_mels, len(labels), device)

    members = tuple(load(entry, is_head) for entry, is_head in zip(entries, on_voice, strict=True))
    trained_alone = card.get("trained_alone")
    if trained_alone is not None and len(set(on_voice)) < 2:
        raise ModelIncompatible(f"{folder}: trained_alone needs members on the voice network and others")
    reference = Reference(
        np.array(card["reference"]["shape_db"], dtype=np.float32),
        np.array(card["reference"]["deviation_db"], dtype=np.float32),
    )
    return Ensemble(
        fingerprint(card),
        labels,
        tuple(entry["name"] for entry in entries),
        card,
        front,
        reference,
        float(card["temperature"]),
        Thresholds(**card["thresholds"]),
        card["rule"],
        np.array([entry["weight"] for entry in entries], dtype=np.float64),
        members,
        on_voice,
        load_heads(folder, card),
        card.get("speaker_norm", True),
        None if trained_alone is None else Calibration.from_card(trained_alone),
        BATCH if device == CPU else GPU_BATCH,
    )

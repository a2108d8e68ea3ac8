"""Training: from labelled clips to members, seeded, resumable after a kill, one epoch at a time.

``train_ensemble`` hears the corpora (:mod:`ensemble.dataset`), trains each
member in turn and leaves one folder per member with ``state.safetensors``
(everything needed to go on), ``best.safetensors`` (the averaged weights to
use) and ``log.jsonl``. :mod:`ensemble.export` turns that into an ensemble.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from ensemble.augment import BatchAugment, BatchSettings
from ensemble.corpora import Clip, Unusable, refuse_leak
from ensemble.dataset import Heard, Hearing, listen, standard_hearings, usable_clips_cached
from ensemble.errors import TrainingError
from ensemble.labels import EMOTIONS, SHARED_SIX
from ensemble.members import MEMBERS, make_member
from ensemble.spectrogram import FrontEnd, Reference, everybody, voice_norm

if TYPE_CHECKING:
    import torch

Float = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TrainSettings:
    """Everything a training run depends on besides the clips; stored in the checkpoint."""

    labels: tuple[str, ...] = SHARED_SIX
    members: tuple[str, ...] = MEMBERS
    seed: int = 1
    n_epochs: int = 60
    batch: int = 64
    learning_rate: float = 1.5e-3
    weight_decay: float = 0.03
    warmup_epochs: float = 2.0
    ema: float = 0.998
    smoothing: float = 0.05
    focal: float = 0.0
    """Focusing exponent of focal loss (Lin et al. 2017); 0 is cross-entropy."""
    votes_share: float = 0.2
    """Weight of the raters' votes in the target, where a corpus has them; the rest is the label."""
    n_augmented: int = 6
    clean_share: float = 0.25
    telephone_share: float = 0.35
    """Shares of examples taken from the clean and the plain telephone hearing; the rest is augmented."""
    paste: float = 0.10
    """Share of clips joined to a neutral clip of the same speaker (CopyPaste)."""
    calm_known: float = 0.3
    """Share of clips whose speaker is known by neutral and happy clips only, as in most real calls."""
    handset: float = 0.3
    """Share of clips heard through a random handset: a smooth response of up to about 12 dB."""
    crop_s: float = 2.2
    speaker_norm: bool = True
    """False leaves every clip with its own shrunk statistics: the ablation."""
    mix_until: float = 0.85
    """Mixup stops after this share of the epochs."""
    schedule: Literal["cosine", "plateau"] = "cosine"
    """``plateau`` halves the rate after every four epochs without a better validation UAR."""
    patience_epochs: int = 0
    """Stop after this many epochs without a better validation UAR; 0 never stops early."""
    batch_augment: BatchSettings = field(default_factory=BatchSettings)
    front: FrontEnd = field(default_factory=FrontEnd)
    n_threads: int = 2
    device: str = "cpu"
    half: bool = True
    """bfloat16 autocast in the convolutions and linear layers (2x on CPUs with AVX-512 BF16)."""


PLATEAU_EPOCHS = 4

PRESETS = {"quick": replace(TrainSettings(), n_epochs=6, n_augmented=2), "night": TrainSettings()}


@dataclass(frozen=True, slots=True)
class Examples:
    """Heard clips with what training needs of them. Arrays are in the order of ``clips``."""

    clips: tuple[Clip, ...]
    hearings: tuple[Heard, ...]
    names: tuple[str, ...]
    by_speaker: tuple[bool, ...]
    """Per hearing: a speaker's clips share a line there, so they say something about each other."""
    targets: Float
    """(n, k) shares of each label."""
    truth: NDArray[np.int64]
    voices: dict[str, NDArray[np.int64]]
    """Indices of every clip of each speaker."""
    reference: Reference
    unusable: tuple[Unusable, ...]

    def hearing(self, name: str) -> Heard:
        """The hearing of that name."""
        return self.hearings[self.names.index(name)]

    def of(self, speakers: frozenset[str]) -> NDArray[np.int64]:
        """Indices of the clips of these speakers, in order."""
        return np.array([i for i, clip in enumerate(self.clips) if clip.speaker in speakers], dtype=np.int64)


def prepare(
    clips: Sequence[Clip],
    training_speakers: frozenset[str],
    settings: TrainSettings,
    cache: Path,
    *,
    hearings: tuple[Hearing, ...] | None = None,
    babblers: frozenset[str] | None = None,
) -> Examples:
    """Decode, hear and index clips; what cannot be used is listed, and statistics are of training speakers.

    ``babblers`` are the speakers that babble is made of (None: the training ones).
    Raises TrainingError when a label of the settings has no training clip.
    """
    front = settings.front
    kept, waves, unusable = usable_clips_cached(clips, front.sample_rate_hz, cache)
    wanted = hearings or standard_hearings(settings.n_augmented, 0)
    voices_of_babble = training_speakers if babblers is None else babblers
    heard = tuple(listen(kept, waves, h, front, cache, voices_of_babble) for h in wanted)
    truth = np.array([settings.labels.index(c.emotion) for c in kept], dtype=np.int64)
    voices: dict[str, list[int]] = {}
    for index, clip in enumerate(kept):
        voices.setdefault(clip.speaker, []).append(index)
    by_voice = {speaker: np.array(indices, dtype=np.int64) for speaker, indices in voices.items()}
    missing = [
        label
        for k, label in enumerate(settings.labels)
        if not any(truth[i] == k for s in by_voice if s in training_speakers for i in by_voice[s])
    ]
    if missing:
        raise TrainingError(
            f"no training clip of {', '.join(missing)}: add a corpus that has it or drop the label"
        )
    names = tuple(h.name for h in wanted)
    telephone = heard[names.index("telephone")] if "telephone" in names else heard[0]
    reference = everybody(
        [telephone.statistics(by_voice[s]) for s in sorted(by_voice) if s in training_speakers]
    )
    targets = np.stack([_target(c, settings) for c in kept])
    return Examples(
        kept, heard, names, tuple(h.by_speaker for h in wanted), targets, truth, by_voice, reference, unusable
    )


def _target(clip: Clip, settings: TrainSettings) -> Float:
    own = np.array([label == clip.emotion for label in settings.labels], dtype=np.float32)
    if clip.votes is not None and settings.votes_share > 0:
        votes = np.array([clip.votes[EMOTIONS.index(label)] for label in settings.labels], dtype=np.float32)
        if votes.sum() > 0:
            own = (1 - settings.votes_share) * own + settings.votes_share * votes / votes.sum()
    return ((1 - settings.smoothing) * own + settings.smoothing / len(own)).astype(np.float32)


def epoch_order(
    examples: Examples, training: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """About ``len(training)`` clips, rarer classes and smaller corpora more often (inverse square root)."""
    clips = [examples.clips[i] for i in training]
    sizes: dict[object, int] = {}
    for clip, index in zip(clips, training, strict=True):
        for key in (clip.corpus, int(examples.truth[index])):
            sizes[key] = sizes.get(key, 0) + 1
    weight = np.array(
        [
            (sizes[c.corpus] * sizes[int(examples.truth[i])]) ** -0.5
            for c, i in zip(clips, training, strict=True)
        ]
    )
    shuffled = rng.permutation(len(training))
    # Systematic sampling: every clip comes its expected number of times, rounded up or down.
    upto = np.cumsum(weight[shuffled] * len(training) / weight.sum())
    picks = np.searchsorted(upto, np.arange(len(training)) + rng.random(), side="left")
    chosen: NDArray[np.int64] = training[shuffled[np.minimum(picks, len(training) - 1)]]
    return chosen[rng.permutation(len(chosen))]


class Batches:
    """Normalised, padded training batches of one epoch; every draw from one generator."""

    def __init__(
        self, examples: Examples, training: NDArray[np.int64], settings: TrainSettings, epoch: int
    ) -> None:
        self.examples, self.settings = examples, settings
        self.rng = np.random.default_rng([settings.seed, epoch])
        self.order = epoch_order(examples, training, self.rng)
        names = examples.names
        shares = np.full(len(names), 0.0)
        augmented = [i for i, name in enumerate(names) if name.startswith("augmented")]
        fixed = {"clean": settings.clean_share, "telephone": settings.telephone_share}
        for name, share in fixed.items():
            if name in names:
                shares[names.index(name)] = share
        shares[augmented] = (1 - shares.sum()) / max(len(augmented), 1)
        self.shares = shares / shares.sum()
        neutral = settings.labels.index("neutral") if "neutral" in settings.labels else -1
        happy = settings.labels.index("happy") if "happy" in settings.labels else neutral
        self.neutral = {s: i[examples.truth[i] == neutral] for s, i in examples.voices.items()}
        self.calm = {s: i[np.isin(examples.truth[i], (neutral, happy))] for s, i in examples.voices.items()}

    def __len__(self) -> int:
        return (len(self.order) + self.settings.batch - 1) // self.settings.batch

    def __iter__(self) -> Any:
        size = self.settings.batch
        pool = size * 12
        for start in range(0, len(self.order), pool):
            some = [self._one(int(i)) for i in self.order[start : start + pool]]
            some.sort(key=lambda item: len(item[0]))
            parts = [some[i : i + size] for i in range(0, len(some), size)]
            for which in self.rng.permutation(len(parts)):
                mels, targets = zip(*parts[which], strict=True)
                yield (*pad(mels), np.stack(targets))

    def _one(self, index: int) -> tuple[Float, Float]:
        s, rng, examples = self.settings, self.rng, self.examples
        which = rng.choice(len(self.shares), p=self.shares)
        heard = examples.hearings[which]
        speaker = examples.clips[index].speaker
        known = [index]
        n_known = int(rng.choice((0, 2, 6, 20, 80), p=(0.3, 0.1, 0.1, 0.2, 0.3)))
        if s.speaker_norm and n_known and examples.by_speaker[which]:
            voice = examples.voices[speaker]
            if rng.random() < s.calm_known:
                # A caller is mostly calm: the statistics of a call are not those of six acted emotions.
                quiet = (self.neutral if rng.random() < 0.5 else self.calm)[speaker]
                voice = quiet if len(quiet) else voice
            known += [int(i) for i in rng.choice(voice, min(n_known, len(voice)), replace=False)]
        statistics = heard.statistics(known)
        mean, deviation = voice_norm(statistics, examples.reference, s.front)
        if rng.random() < s.handset:
            # A handset colours the clip and the statistics alike, so only what shrinking leaves is heard.
            n_s = statistics.n_frames * s.front.hop_s
            mean = mean - handset_response_db(s.front.n_mels, rng) * s.front.shrink_s / (
                n_s + s.front.shrink_s
            )
        mel = heard.clip(index)
        if rng.random() < s.paste and len(self.neutral[speaker]):
            other = heard.clip(int(rng.choice(self.neutral[speaker])))
            mel = np.concatenate([mel, other] if rng.random() < 0.5 else [other, mel])
            longest = round(1.4 * s.crop_s / s.front.hop_s)
        else:
            longest = round(s.crop_s / s.front.hop_s)
        if len(mel) > longest:
            first = int(rng.integers(len(mel) - longest + 1))
            mel = mel[first : first + longest]
        return (mel - mean) / deviation, examples.targets[index]


def handset_response_db(n_mels: int, rng: np.random.Generator) -> Float:
    """A random smooth frequency response: a tilt of up to 8 dB either way, a wave of up to 4 dB; mean 0."""
    band = np.linspace(-1, 1, n_mels)
    wave = np.sin(np.pi * rng.uniform(0.5, 1.5) * band + rng.uniform(0, 2 * np.pi))
    response = rng.uniform(-8, 8) * band + rng.uniform(0, 4) * wave
    centred: Float = (response - response.mean()).astype(np.float32)
    return centred


def pad(mels: Sequence[Float]) -> tuple[Float, Float]:
    """Zero-padded (n, longest, n_mels) float32 and its mask (n, longest) of ones where frames exist."""
    longest = max(len(mel) for mel in mels)
    batch = np.zeros((len(mels), longest, mels[0].shape[1]), dtype=np.float32)
    mask = np.zeros((len(mels), longest), dtype=np.float32)
    for row, mel in enumerate(mels):
        batch[row, : len(mel)] = mel
        mask[row, : len(mel)] = 1
    return batch, mask


def normalised(
    examples: Examples, heard: Heard, indices: NDArray[np.int64], known: str, settings: TrainSettings
) -> list[Float]:
    """Spectrograms as a member hears them. ``known`` is what statistics come from:

    ``clip`` (each alone), ``speaker`` (all clips of the speaker in ``indices``),
    ``calm`` (only the speaker's neutral and happy ones, a calm start of a call).
    """
    inside = set(indices.tolist())
    calm = [settings.labels.index(e) for e in ("neutral", "happy") if e in settings.labels]
    out = []
    norms: dict[str, tuple[Float, Float]] = {}
    for index in indices.tolist():
        speaker = examples.clips[index].speaker
        key = str(index) if known == "clip" else speaker
        if key not in norms:
            own = (
                [i for i in examples.voices[speaker].tolist() if i in inside] if known != "clip" else [index]
            )
            if known == "calm":
                own = [i for i in own if examples.truth[i] in calm] or own
            norms[key] = voice_norm(heard.statistics(own), examples.reference, settings.front)
        mean, deviation = norms[key]
        out.append((heard.clip(index) - mean) / deviation)
    return out


def predict_logits(
    model: torch.nn.Module, mels: Sequence[Float], device: str = "cpu", batch: int = 64
) -> Float:
    """Logits (n, k) float32 of normalised spectrograms, batched by similar length."""
    import torch

    order = sorted(range(len(mels)), key=lambda i: len(mels[i]))
    out: list[tuple[list[int], Float]] = []
    model.eval()
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            part = order[start : start + batch]
            mel, mask = pad([mels[i] for i in part])
            logits = model(torch.from_numpy(mel).to(device), torch.from_numpy(mask).to(device))
            out.append((part, logits.float().cpu().numpy()))
    result = np.zeros((len(mels), out[0][1].shape[1]), dtype=np.float32)
    for part, logits in out:
        result[part] = logits
    return result


def unweighted_recall(truth: NDArray[np.int64], guess: NDArray[np.int64]) -> float:
    """Mean recall over the classes that occur in ``truth``."""
    return float(np.mean([np.mean(guess[truth == k] == k) for k in np.unique(truth)]))


@dataclass(frozen=True, slots=True)
class Progress:
    """What the trainer says after each epoch. UARs are of the averaged weights, telephone, 0..1 or None."""

    member: str
    epoch: int
    n_epochs: int
    loss: float
    uar_clip: float | None
    uar_speaker: float | None
    left_s: float


def settings_hash(
    settings: TrainSettings, examples: Examples, training: NDArray[np.int64], start: Path | None
) -> str:
    """What a checkpoint must agree with to be gone on from; threads and device do not count."""
    told = asdict(replace(settings, n_threads=0, device="", members=()))
    names = [examples.clips[i].path.name for i in training]
    began = hashlib.sha256(start.read_bytes()).hexdigest() if start else None
    return hashlib.sha256(json.dumps([told, names, began], default=str).encode()).hexdigest()


def train_member(  # noqa: PLR0915 one loop, read from top to bottom
    name: str,
    examples: Examples,
    training: NDArray[np.int64],
    validation: NDArray[np.int64],
    settings: TrainSettings,
    folder: Path,
    say: Callable[[Progress], None] = lambda _: None,
    *,
    start: Path | None = None,
) -> Path:
    """Train one member and return the path of its averaged weights (safetensors).

    ``name`` is an architecture, or one with a number (``cnn-2``): the same from
    another seed. ``start`` gives weights (safetensors) to begin from: a second
    round at a lower learning rate, or an ensemble fitted to one's own labelled
    calls; a head of other labels is left out. Goes on from ``folder`` when a
    checkpoint of the same settings and clips is there.
    With the same seed, clips and thread count the result is the same.
    Raises LeakError when a speaker is on both sides, TrainingError when the
    checkpoint is of other settings or the loss is not finite.
    """
    import torch
    from safetensors.torch import load_file, save_file

    refuse_leak([examples.clips[i] for i in training], [examples.clips[i] for i in validation])
    folder.mkdir(parents=True, exist_ok=True)
    best_path, agrees = folder / "best.safetensors", settings_hash(settings, examples, training, start)
    torch.set_num_threads(settings.n_threads)
    architecture, _, number = name.partition("-")
    if number:
        settings = replace(settings, seed=settings.seed + 1000 * int(number))
    if settings.schedule == "plateau" and not len(validation):
        raise TrainingError(
            f"{name}: a plateau is seen on validation speakers and there are none; use cosine"
        )
    torch.manual_seed(settings.seed)
    model = make_member(architecture, settings.front.n_mels, len(settings.labels)).to(settings.device)
    if start is not None:
        _begin(model, load_file(start))
    model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        _decay_groups(model, settings.weight_decay), lr=settings.learning_rate, betas=(0.9, 0.98), fused=True
    )
    average = {key: value.detach().clone() for key, value in model.state_dict().items()}
    first, best, stale, factor = _resume(folder, agrees, model, optimizer, average)
    n_steps = settings.n_epochs * -(-len(training) // settings.batch)
    step = first * -(-len(training) // settings.batch)
    durations: list[float] = []
    for epoch in range(first, settings.n_epochs):
        started = time.monotonic()
        torch.manual_seed(settings.seed * 100_003 + epoch)
        change = BatchAugment(settings.batch_augment, settings.seed * 100_003 + epoch)
        mix = epoch < settings.mix_until * settings.n_epochs
        losses = []
        model.train()
        for arrays in Batches(examples, training, settings, epoch):
            mel, mask, target = change(*(torch.from_numpy(a) for a in arrays), mix=mix)
            for group in optimizer.param_groups:
                group["lr"] = settings.learning_rate * factor * _schedule(step, n_steps, settings)
            with torch.autocast(settings.device.split(":")[0], torch.bfloat16, enabled=settings.half):
                logits = model(mel.to(settings.device), mask.to(settings.device))
            loss = _loss(logits.float(), target.to(settings.device), settings.focal)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(model.parameters(), 2.0)
            optimizer.step()
            step += 1
            _average(average, model, min(settings.ema, (1 + step) / (10 + step)))
            losses.append(loss.item())
        if not np.isfinite(losses).all():
            raise TrainingError(
                f"{name}: the loss became {losses[-1]} in epoch {epoch + 1}; lower learning_rate"
            )
        uar_clip, uar_speaker = _validate(name, average, examples, validation, settings)
        score = (uar_clip or 0.0) + (uar_speaker or 0.0)
        # Without validation speakers the last epoch is the one to keep.
        if not len(validation) or score >= best:
            best, stale = score, 0
            save_file({k: v.contiguous().cpu() for k, v in average.items()}, best_path)
        else:
            stale += 1
            if settings.schedule == "plateau" and stale % PLATEAU_EPOCHS == 0:
                factor /= 2
        told = {"epoch": str(epoch + 1), "best": repr(best), "stale": str(stale), "factor": repr(factor)}
        _save_state(folder, {"agrees": agrees, **told}, model, optimizer, average)
        durations.append(time.monotonic() - started)
        left_s = float(np.mean(durations)) * (settings.n_epochs - epoch - 1)
        progress = Progress(
            name, epoch + 1, settings.n_epochs, float(np.mean(losses)), uar_clip, uar_speaker, left_s
        )
        with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
            log.write(json.dumps(asdict(progress)) + "\n")
        say(progress)
        if settings.patience_epochs and stale >= settings.patience_epochs:
            break
    return best_path


def _begin(model: torch.nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Take over weights; a head of other labels stays new."""
    own = model.state_dict()
    known = {k: v for k, v in weights.items() if k in own and own[k].shape == v.shape}
    if missing := [key for key in own if key not in known and not key.startswith("head.")]:
        raise TrainingError(f"the weights to begin from are of another architecture: {missing[:3]} differ")
    model.load_state_dict(known, strict=False)


def _decay_groups(model: torch.nn.Module, decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in model.parameters() if p.ndim > 1]
    vectors = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]


def _schedule(step: int, n_steps: int, settings: TrainSettings) -> float:
    """Linear warm-up, then a half cosine down to 1 %, or level where validation decides."""
    warm = settings.warmup_epochs * n_steps / max(settings.n_epochs, 1)
    if step < warm:
        return (step + 1) / (warm + 1)
    if settings.schedule == "plateau":
        return 1.0
    return 0.01 + 0.99 * 0.5 * (1 + float(np.cos(np.pi * (step - warm) / max(n_steps - warm, 1))))


def _loss(logits: torch.Tensor, target: torch.Tensor, focal: float) -> torch.Tensor:
    import torch

    log_p = torch.log_softmax(logits, dim=1)
    if focal > 0:
        log_p = log_p * (1 - log_p.exp()) ** focal
    return -(target * log_p).sum(dim=1).mean()


def _average(average: dict[str, torch.Tensor], model: torch.nn.Module, keep: float) -> None:
    import torch

    with torch.no_grad():
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                average[key].lerp_(value, 1 - keep)
            else:
                average[key].copy_(value)


def _validate(
    name: str,
    average: dict[str, torch.Tensor],
    examples: Examples,
    validation: NDArray[np.int64],
    settings: TrainSettings,
) -> tuple[float | None, float | None]:
    if not len(validation):
        return None, None
    architecture = name.partition("-")[0]
    model = make_member(architecture, settings.front.n_mels, len(settings.labels)).to(settings.device)
    model.load_state_dict(average)
    heard = examples.hearing("telephone")
    scores = []
    for known in ("clip", "speaker"):
        mels = normalised(examples, heard, validation, known, settings)
        guess = predict_logits(model, mels, settings.device).argmax(axis=1)
        scores.append(unweighted_recall(examples.truth[validation], guess))
    return scores[0], scores[1]


def _save_state(
    folder: Path,
    told: dict[str, str],
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> None:
    from safetensors.torch import save_file

    tensors = {f"model.{k}": v for k, v in model.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in average.items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": v for k, v in state.items()}
    unfinished = folder / "state.part"
    save_file({k: v.detach().contiguous().cpu().clone() for k, v in tensors.items()}, unfinished, told)
    # One rename: a kill at any moment leaves the old or the new state, never half of one.
    unfinished.replace(folder / "state.safetensors")


def _resume(
    folder: Path,
    agrees: str,
    model: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    average: dict[str, torch.Tensor],
) -> tuple[int, float, int, float]:
    """(epochs done, best score, epochs since, rate factor); loads what ``folder`` has into the arguments."""
    import torch
    from safetensors import safe_open

    path = folder / "state.safetensors"
    if not path.is_file():
        return 0, -1.0, 0, 1.0
    with safe_open(path, framework="pt") as file:
        told = file.metadata()
        if told["agrees"] != agrees:
            raise TrainingError(
                f"{path} is of other settings or clips; train into another folder or delete it"
            )
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 safe_open is not iterable
    model.load_state_dict({k[6:]: v for k, v in tensors.items() if k.startswith("model.")})
    for key, value in average.items():
        value.copy_(tensors[f"average.{key}"])
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, field = key.split(".")
            states.setdefault(int(index), {})[field] = value
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    # The fused kernel walks memory: moments must lie in memory as their channels-last weights do.
    for weight, state in optimizer.state.items():
        for field_name, value in list(state.items()):
            if value.shape == weight.shape:
                state[field_name] = torch.empty_like(weight).copy_(value)
    return int(told["epoch"]), float(told["best"]), int(told["stale"]), float(told.get("factor", 1))


def weights_of(ensemble: Path, member: str) -> Path:
    """A member's weights in an ensemble's folder; another seed begins from its architecture's."""
    own = ensemble / f"{member}.safetensors"
    return own if own.is_file() else ensemble / f"{member.partition('-')[0]}.safetensors"


def train_ensemble(
    clips: Sequence[Clip],
    validation_speakers: frozenset[str],
    settings: TrainSettings,
    *,
    folder: Path,
    cache: Path,
    start: Path | None = None,
    babblers: frozenset[str] | None = None,
    say: Callable[[Progress], None] = lambda _: None,
) -> Examples:
    """Train every member of ``settings.members`` into ``folder/<member>``; returns what was heard.

    ``start`` is a folder with ``<member>.safetensors`` to begin from (that of an ensemble).

    ``validation_speakers`` are held out (may be empty for the final training);
    ``babblers`` as in :func:`prepare`.
    Run it again after a kill and it goes on where it was. Raises CorpusError,
    LeakError, TrainingError.
    """
    speakers = frozenset(clip.speaker for clip in clips) - validation_speakers
    examples = prepare(clips, speakers, settings, cache, babblers=babblers)
    training, validation = examples.of(speakers), examples.of(validation_speakers)
    for name in settings.members:
        begin = weights_of(start, name) if start else None
        train_member(name, examples, training, validation, settings, folder / name, say, start=begin)
    return examples

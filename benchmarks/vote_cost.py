"""What does the vote cost, against five plain members and against asking all members of everybody?

Finds voices and segments of the bank calls once (stereo with stated sides, mono without) and has them voted
on in three ways, in turn, several times: by five trained members, by all members of everybody, and as the
night does it, where the member on the voice network is not asked of voices that are surely the agent's.
Prints the least processor time of each, their ratios, the share of speech that all were asked of, and whether
the labels of those voices are the same in the last two.

    OMP_NUM_THREADS=1 python benchmarks/vote_cost.py --data ../shared [--rounds 3]
"""

from __future__ import annotations

import argparse
import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from ordinary_calls import found

from callanalytics.analysis.assess import vote_segments
from callanalytics.audio import decode_recording
from callanalytics.config import Settings
from callanalytics.diarize import SpeechModels, diarize
from callanalytics.diarize.roles import possible_callers
from callanalytics.diarize.segments import cut_segments
from callanalytics.records import Audio, Diarization, Role, Segment
from ensemble.inference.ensemble import Ensemble, load_ensemble
from ensemble.inference.vote import CentredHeads, Votes


@dataclass(frozen=True)
class Call:
    """A call up to its segments; `asked` (n,): of whom all members are asked."""

    audio: Audio
    speech: Diarization
    segments: tuple[Segment, ...]

    @property
    def asked(self) -> np.ndarray:
        doubted = set(possible_callers(self.speech))
        return np.array([s.role is not Role.AGENT or s.speaker in doubted for s in self.segments], dtype=bool)


def read(path: Path, models: SpeechModels, settings: Settings) -> Call:
    recording = found(path)
    audio = decode_recording(recording.recording.paths, settings.audio)
    stated = recording.facts.stated_roles if audio.n_channels == 2 else ()
    speech = diarize(
        audio.samples,
        audio.sample_rate_hz,
        layout_hint=None,
        stated_roles=stated,
        agent_voice=None,
        learn_voices=False,
        conversation_share=settings.conversation_share(None),
        models=models,
    )
    return Call(audio, speech, cut_segments(speech.turns, speech.roles, settings.segments))


def five_trained(ensemble: Ensemble) -> Ensemble:
    """The trained members and as many of them again as five need: what they answer does not matter here."""
    trained = [m for m, on_voice in enumerate(ensemble.on_voice) if not on_voice]
    chosen = (trained * 5)[:5]
    heads = ensemble.heads
    assert heads is not None
    return replace(
        ensemble,
        member_names=tuple(ensemble.member_names[m] for m in chosen),
        members=tuple(ensemble.members[m] for m in chosen),
        on_voice=(False,) * 5,
        weights=np.ones(5),
        trained_alone=None,
        heads=CentredHeads(
            tuple(heads.weights[m] for m in chosen),
            tuple(heads.origins[m] for m in chosen),
            heads.biases[chosen],
            heads.temperature,
        ),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    settings, models, night = Settings(), SpeechModels.load(1), load_ensemble()
    ways = {"five": five_trained(night), "all": replace(night, trained_alone=None), "night": night}
    for layout in ("stereo", "mono"):
        files = sorted((options.data / "calls" / "harper-valley" / layout).glob("*.wav"))
        calls = [read(file, models, settings) for file in files]
        spent: dict[str, list[float]] = {way: [] for way in ways}
        votes: dict[str, list[Votes]] = {}
        for _ in range(options.rounds + 1):  # the first one warms up
            for way, ensemble in ways.items():
                started = time.process_time()
                votes[way] = [vote_segments(c.audio, c.segments, c.speech, settings, ensemble) for c in calls]
                spent[way].append(time.process_time() - started)
        least = {way: min(each[1:]) for way, each in spent.items()}
        seconds = np.array([s.duration_s for c in calls for s in c.segments])
        asked = np.concatenate([c.asked for c in calls])
        named = {way: [v.emotion(i) for v in votes[way] for i in range(len(v))] for way in ("all", "night")}
        same = np.array([one == other for one, other in zip(named["all"], named["night"], strict=True)])
        print(f"{layout}: {len(calls)} calls, {seconds.sum():.0f} s of segments")
        print(f"  processor seconds: {', '.join(f'{way} {each:.3f}' for way, each in least.items())}")
        whole, part = least["all"] / least["five"], least["night"] / least["five"]
        print(f"  against five: all {whole:.2f}, night {part:.2f}; night against all {part / whole:.2f}")
        print(f"  all were asked of {seconds[asked].sum() / seconds.sum():.1%} of the speech")
        print(
            f"  same label where all were asked {same[asked].mean():.1%}, elsewhere {same[~asked].mean():.1%}"
        )
        for way, labels in named.items():
            of_agents = Counter(label for label, is_asked in zip(labels, asked, strict=True) if not is_asked)
            print(f"  labels elsewhere, {way}: {dict(of_agents)}")


if __name__ == "__main__":
    main()

"""Tables of a sample of TESS and nEMO, on which the shipped weights are tested and nothing is chosen.

Of TESS 30 clips of each speaker and emotion, of nEMO 8, of the emotions that both share with the ensemble.
Drawn by `default_rng(22)`: TESS first, groups in the order of emotion and speaker, of each group's files in
the order of their path the first of a permutation.

    python benchmarks/samples.py --data ../shared --out FOLDER
    callanalytics evaluate --ensemble shipped --condition telephone --card card \\
        --corpus tess=FOLDER/tess.csv --corpus nemo=FOLDER/nemo.csv
"""

from __future__ import annotations

import argparse
import csv
from pathlib import Path

import numpy as np

from ensemble.corpora import Clip, read_corpus
from ensemble.inference.card import read_card
from ensemble.inference.ensemble import SHIPPED

SEED = 22
N_EACH = {"tess": 30, "nemo": 8}


NEMO_EMOTIONS = {"happiness": "happy", "sadness": "sad", "surprised": "surprise"}


def nemo_clips(folder: Path) -> tuple[Clip, ...]:
    """Clips of the table that nEMO's authors ship, which says nothing of folders."""
    with (folder / "data.tsv").open(encoding="utf-8", newline="") as file:
        return tuple(
            Clip(
                folder / "samples" / row["file_id"],
                "nemo",
                NEMO_EMOTIONS.get(row["emotion"], row["emotion"]),
                f"nemo/{row['speaker_id'].strip()}",
            )
            for row in csv.DictReader(file, delimiter="\t")
        )


def groups(clips: tuple[Clip, ...], labels: list[str]) -> list[list[Clip]]:
    """Clips of each emotion and speaker, in their order."""
    found: dict[tuple[str, str], list[Clip]] = {}
    for clip in sorted(clips, key=lambda c: c.path):
        if clip.emotion in labels:
            found.setdefault((clip.emotion, clip.speaker), []).append(clip)
    return [found[key] for key in sorted(found)]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    rng, labels = np.random.default_rng(SEED), read_card(SHIPPED)["labels"]
    options.out.mkdir(parents=True, exist_ok=True)
    for name, n_each in N_EACH.items():
        folder = (options.data / "corpora" / name).resolve()
        clips = nemo_clips(folder) if name == "nemo" else read_corpus(folder).clips
        lines = ["path,emotion,speaker"]
        for group in groups(clips, labels):
            chosen = [group[i] for i in rng.permutation(len(group))[:n_each]]
            lines += [f"{c.path},{c.emotion},{c.speaker.partition('/')[2]}" for c in chosen]
        (options.out / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
        print(f"{name}: {len(lines) - 1} of {len(clips)} clips")


if __name__ == "__main__":
    main()

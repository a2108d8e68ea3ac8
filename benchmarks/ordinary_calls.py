"""What does the ensemble name on ordinary bank calls, where hardly anybody is angry?

Runs the real analysis over stereo calls (left: caller, right: agent) and counts by side: segments without a
label and with another label than neutral, of all segments; anger, of the labelled ones. Nobody labelled these
calls by ear: people played caller and agent calmly, so a good recogniser names nearly everything neutral.

    python benchmarks/ordinary_calls.py --data ../shared [--ensemble FOLDER] [--into RESULTS.json]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from callanalytics.analysis.call import CallAnalysis, load_analysis
from callanalytics.config import Settings
from callanalytics.records import (
    CallFacts,
    FoundRecording,
    Recording,
    Role,
    RoleSource,
    StatedRoles,
    TimeSource,
)


def found(path: Path) -> FoundRecording:
    """A recording whose sides are known."""
    now = datetime.now(UTC)
    stated = StatedRoles(RoleSource.RECORDER, (Role.CALLER, Role.AGENT), 0.999, "the benchmark")
    facts = CallFacts("none", 0.0, now, TimeSource.FILE_TIME, "UTC", stated_roles=(stated,))
    return FoundRecording(Recording(hashlib.sha256(path.read_bytes()).hexdigest(), (path,), 0, now), facts)


def figures(calls: list[CallAnalysis], role: Role) -> dict[str, Any]:
    """Shares of one side's segments."""
    named = [
        call.votes.emotion(i)
        for call in calls
        for i, segment in enumerate(call.segments)
        if segment.role is role
    ]
    labelled = [emotion for emotion in named if emotion is not None]
    return {
        "n_segments": len(named),
        "without_label": 1 - len(labelled) / len(named),
        "other_than_neutral": float(np.mean([emotion not in (None, "neutral") for emotion in named])),
        "anger_among_labelled": float(np.mean([emotion == "anger" for emotion in labelled]))
        if labelled
        else 0.0,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=Path("../shared"))
    parser.add_argument("--ensemble", type=Path)
    parser.add_argument("--into", type=Path, help="Results file that gets the figures for the model card.")
    options = parser.parse_args()
    files = sorted((options.data / "calls" / "harper-valley" / "stereo").glob("*.wav"))
    analyze = load_analysis(Settings(), options.ensemble)
    calls = [analyze(found(file)) for file in files]
    flagged = sum(call.assessment.flagged for call in calls)
    result = {role.value: figures(calls, role) for role in (Role.CALLER, Role.AGENT)}
    print(f"{len(calls)} calls, {flagged} flagged")
    for side, row in result.items():
        shares = ", ".join(f"{name} {value:.1%}" for name, value in row.items() if name != "n_segments")
        print(f"{side}: {row['n_segments']} segments, {shares}")
    if options.into:
        known = json.loads(options.into.read_text(encoding="utf-8"))
        known["ordinary_calls"] = result
        options.into.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

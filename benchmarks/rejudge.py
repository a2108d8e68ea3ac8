"""Time judging stored calls again: another threshold, and another curve.

    python benchmarks/store.py --rows 1_000_000 --out DIR      # 9,670 made-up calls of about 100 segments
    python benchmarks/rejudge.py --out DIR

Processor seconds of this process and its children, from the first call to the last commit, and with the
publishing and the pages that follow. The results in DIR are those of the last rules afterwards.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

from callanalytics.config import FrustrationSettings, Settings
from callanalytics.workspace import Workspace
from jobs.models.rejudge import rejudge


def with_threshold(settings: Settings, at_least: float) -> Settings:
    """The settings with another threshold of the rule on frustration."""
    rules = [
        r.model_copy(update={"at_least": at_least}) if r.name == "frustrated" else r for r in settings.rule
    ]
    return settings.model_copy(update={"rule": tuple(rules)})


def cpu_s() -> float:
    """Processor seconds so far."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def timed(workspace: Workspace, settings: Settings) -> dict[str, object]:
    """Judge everything by these settings."""
    began, judged = (cpu_s(), time.monotonic()), (0.0, 0.0)

    def note(what: str, *_: object) -> None:
        nonlocal judged
        if what == "publish":
            judged = (cpu_s() - began[0], time.monotonic() - began[1])

    done = rejudge(settings, workspace, on_progress=note)
    return {
        "n_calls": done.n_calls,
        "came": len(done.came),
        "went": len(done.went),
        "judged_cpu_s": round(judged[0], 1),
        "judged_wall_s": round(judged[1], 1),
        "all_cpu_s": round(cpu_s() - began[0], 1),
        "all_wall_s": round(time.monotonic() - began[1], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    workspace = Workspace(parser.parse_args().out)
    settings = Settings()
    curve = Settings(frustration=FrustrationSettings(smoothing_s=8.0))
    asked = {
        "threshold 0.38 to 0.45": with_threshold(settings, 0.45),
        "threshold 0.45 to 0.30": with_threshold(settings, 0.30),
        "smoothing 12 s to 8 s": curve,
        "smoothing 8 s to 12 s": settings,
    }
    print(json.dumps({what: timed(workspace, by) for what, by in asked.items()}, indent=1))


if __name__ == "__main__":
    main()

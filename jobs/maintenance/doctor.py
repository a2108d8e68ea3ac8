"""Is this machine ready for the night? Every check says what it found and how to mend it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from callanalytics.config import Settings
from callanalytics.errors import CallAnalyticsError, UsageError
from callanalytics.ingest.object_store import check_remote, is_remote, url_of
from callanalytics.workspace import Workspace

# A night writes about 60 kB a call to the database and its published copy; 2 GB is 30,000 calls.
LOW_DISK_BYTES = 2_000_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was looked at, whether it is well, what was found, how to mend it."""

    name: str
    ok: bool
    found: str
    fix: str = ""

    def to_dict(self) -> dict[str, object]:
        """Plain values for `doctor --json`."""
        return asdict(self)


def examine(settings: Settings, workspace: Workspace) -> list[Finding]:
    """All checks, each guarded: a check that breaks is a finding, never a crash."""
    checks: tuple[tuple[str, Callable[[Settings, Workspace], Iterator[Finding]]], ...] = (
        ("python", _python),
        ("settings", _settings),
        ("inputs", _inputs),
        ("decoders", _decoders),
        ("clips", _clips),
        ("voice models", _voice_models),
        ("device", _device),
        ("ensemble", _ensemble),
        ("disk", _disk),
        ("zone", _zone),
        ("database", _database),
    )
    findings: list[Finding] = []
    for name, check in checks:
        try:
            findings += check(settings, workspace)
        except Exception as problem:
            findings.append(
                Finding(
                    name,
                    ok=False,
                    found=f"{type(problem).__name__}: {problem}",
                    fix="Reinstall callanalytics.",
                )
            )
    return findings


def render_findings(findings: list[Finding]) -> str:
    """Findings as lines, the ones to mend with their fix."""
    width = max(len(f.name) for f in findings)
    lines = []
    for finding in findings:
        lines.append(f"{'ok  ' if finding.ok else 'MEND'}  {finding.name:<{width}}  {finding.found}")
        if not finding.ok and finding.fix:
            lines.append(f"      {'':<{width}}  -> {finding.fix}")
    n_bad = sum(not f.ok for f in findings)
    lines.append("Ready." if not n_bad else f"{n_bad} to mend.")
    return "\n".join(lines)


def _python(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield Finding("python", sys.version_info >= (3, 11), version, "Install Python 3.11 or newer.")


def _settings(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    yield Finding("settings", ok=True, found=f"{settings.source}: {len(settings.rule)} rules")


def _inputs(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    if not settings.input_dirs:
        yield Finding(
            "inputs", False, "no input folder set", "Set inputs in [paths], or give run --input FOLDER."
        )
    for folder in settings.input_dirs:
        if is_remote(folder):
            yield _remote_input(folder)
            continue
        readable = os.access(folder, os.R_OK)
        yield Finding("inputs", readable, str(folder), f"Mount or create {folder} and allow reading it.")


def _remote_input(root: Path) -> Finding:
    try:
        check_remote(root)
    except UsageError as problem:
        return Finding("inputs", False, str(problem), "Correct the address in [paths] inputs, or its rights.")
    return Finding("inputs", True, f"{url_of(root)} answers")


def _decoders(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    import av
    import soundfile

    wanted = {"mp3", "aac", "opus", "amrnb", "wmav2", "gsm", "pcm_mulaw", "adpcm_ima_wav"}
    missing = sorted(wanted - set(av.codecs_available))
    found = f"PyAV {av.__version__}, libsndfile {soundfile.__libsndfile_version__}"
    yield Finding(
        "decoders",
        not missing,
        found if not missing else f"missing: {', '.join(missing)}",
        "pip install --force-reinstall av",
    )


def _clips(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    import imageio_ffmpeg

    program = imageio_ffmpeg.get_ffmpeg_exe()
    yield Finding(
        "clips",
        os.access(program, os.X_OK),
        Path(program).name,
        "pip install --force-reinstall imageio-ffmpeg",
    )


def _voice_models(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    from callanalytics.diarize import SpeechModels

    models = SpeechModels.load()
    # The first use of these two converts their weights: better now than at night.
    ready = models.segmenter is not None and models.printer is not None
    yield Finding("voice models", ready, "voice activity, segmentation and voice prints load")


def _device(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    from ensemble.inference.device import prepare_device
    from ensemble.model_errors import DeviceMissing

    device = settings.engine.device
    if settings.engine.kind == "ray":
        yield Finding("device", True, f"{device}, on the nodes of Ray, which are not asked")
        return
    try:
        prepare_device(device)
    except DeviceMissing as problem:
        yield Finding("device", False, str(problem), "Correct [engine] device.")
        return
    yield Finding("device", True, f"{device}, for members and voice prints")


def _ensemble(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    from ensemble.inference.ensemble import load_ensemble
    from ensemble.model_errors import EnsembleError
    from jobs.active_ensemble import in_use

    try:
        ensemble = load_ensemble(in_use(settings, workspace))
    except EnsembleError as problem:
        yield Finding(
            "ensemble", False, str(problem), "Remove [emotion] ensemble to use the shipped weights."
        )
        return
    members = ", ".join(ensemble.member_names)
    yield Finding("ensemble", True, f"{ensemble.ensemble_id}: {members}; {len(ensemble.labels)} emotions")


def _disk(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    existing = next(p for p in (workspace.folder, *workspace.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    yield Finding(
        "disk",
        free >= LOW_DISK_BYTES and os.access(existing, os.W_OK),
        f"{free / 1e9:.1f} GB free at {existing}",
        f"Free at least {LOW_DISK_BYTES / 1e9:.0f} GB, or allow writing there.",
    )


def _zone(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    from datetime import UTC, datetime

    local = datetime.now(UTC).astimezone(settings.time.zone_info)
    yield Finding(
        "zone", True, f'{settings.time.zone}, now {local:%Y-%m-%d %H:%M} ("yesterday" is read in it)'
    )


def _database(settings: Settings, workspace: Workspace) -> Iterator[Finding]:
    from callanalytics.store.query import run_query

    database = workspace.database
    if not database.exists():
        yield Finding("database", True, f"none yet at {database}: the first run makes it")
        return
    try:
        n_calls = run_query(database, "SELECT count(*) FROM call_summary", max_rows=1).item()
    except CallAnalyticsError as problem:
        yield Finding("database", False, str(problem), "Run again: publishing writes a fresh copy.")
        return
    yield Finding("database", True, f"{database}: {n_calls} calls")

"""Whether this machine is ready for the night: every check says what it found and how to correct it."""

from __future__ import annotations

import os
import shlex
import shutil
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from callanalytics.config import Settings
from callanalytics.config.call_settings import machine_zone
from callanalytics.errors import CallAnalyticsError, StoreError, UsageError
from callanalytics.ingest.object_store import check_remote, is_remote, shown_url
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt, salt_of_results
from callanalytics.records.text import counted
from callanalytics.workspace import Workspace

# A night writes about 90 kB a call to the database and two published files; 2 GB is 22,000 calls.
LOW_DISK_BYTES = 2_000_000_000
CODECS = frozenset({"mp3", "aac", "opus", "amrnb", "wmav2", "gsm", "pcm_mulaw", "adpcm_ima_wav"})

_Answer = tuple[bool, str, str]  # whether it is well, what was found, how to correct it


@dataclass(frozen=True, slots=True)
class Finding:
    """The answer of one check; the fields are those of `doctor --json`."""

    name: str
    ok: bool
    found: str
    fix: str


def examine(settings: Settings, workspace: Workspace, *, deep: bool = False) -> list[Finding]:
    """The findings of all checks; a check that breaks is a finding, never a crash.

    Args:
        settings: what the night would use.
        workspace: the output folder.
        deep: read every block of both databases too (about 1 GB a second).
    """
    findings: list[Finding] = []
    for name, check in (_CHECKS | _DEEP_CHECKS if deep else _CHECKS).items():
        try:
            findings += [Finding(name, *answer) for answer in check(settings, workspace)]
        except Exception as problem:
            what = f"{type(problem).__name__}: {problem}"
            findings.append(Finding(name, False, what, "Reinstall callanalytics."))
    return findings


def render_findings(findings: list[Finding]) -> str:
    """Findings as lines, each problem with its fix."""
    width = max(len(f.name) for f in findings)
    lines = []
    for finding in findings:
        lines.append(f"{'ok  ' if finding.ok else 'FAIL'}  {finding.name:<{width}}  {finding.found}")
        if not finding.ok and finding.fix:
            lines.append(f"      {'':<{width}}  -> {finding.fix}")
    n_bad = sum(not f.ok for f in findings)
    lines.append(f"{n_bad} problem{'' if n_bad == 1 else 's'}." if n_bad else "Ready.")
    return "\n".join(lines)


def _python(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    version = ".".join(map(str, sys.version_info[:3]))
    yield sys.version_info >= (3, 11), version, "Install Python 3.11 or newer."


def _settings(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    yield True, f"{settings.source}: {len(settings.rule)} rules", ""


def _inputs(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    if not settings.input_dirs:
        yield False, "no input folder set", "Set inputs in [paths], or give run --input FOLDER."
    for folder in settings.input_dirs:
        if not is_remote(folder):
            fix = f"Mount or create {folder} and allow reading it."
            yield os.access(folder, os.R_OK), str(folder), fix
            continue
        try:
            check_remote(folder)
        except UsageError as problem:
            yield False, str(problem), "Correct the address in [paths] inputs, or its rights."
        else:
            yield True, f"{shown_url(folder)} answers", ""


def _decoders(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    import av
    import soundfile

    missing = sorted(CODECS - set(av.codecs_available))
    versions = f"PyAV {av.__version__}, libsndfile {soundfile.__libsndfile_version__}"
    found = f"missing: {', '.join(missing)}" if missing else versions
    yield not missing, found, "pip install --force-reinstall av"


def _clips(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    import av

    from callanalytics.audio.clips import ENCODER

    found = ENCODER in av.codecs_available
    yield found, ENCODER if found else f"missing: {ENCODER}", "pip install --force-reinstall av"


def _voice_models(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    from callanalytics.diarize import SpeechModels
    from ensemble.inference.device import multiplies_bytes

    models = SpeechModels.load()
    ready = models.segmenter is not None and models.printer is not None
    pace = "" if multiplies_bytes() else "; prints take twice the time, as this processor has no VNNI"
    yield ready, f"voice activity, segmentation and voice prints load{pace}", ""


def _device(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    from ensemble.inference.device import prepare_device
    from ensemble.model_errors import DeviceMissing

    device = settings.engine.device
    if settings.engine.kind == "ray":
        yield True, f"{device}, on the nodes of Ray, which are not checked", ""
        return
    try:
        prepare_device(device)
    except DeviceMissing as problem:
        yield False, str(problem), "Correct [engine] device."
    else:
        yield True, f"{device}, for the networks of the ensemble", ""


def _ensemble(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    from ensemble.inference.ensemble import load_ensemble
    from ensemble.model_errors import EnsembleError
    from jobs.active_ensemble import in_use

    try:
        ensemble = load_ensemble(in_use(settings, workspace))
    except EnsembleError as problem:
        named = settings.emotion.ensemble  # else the message itself says what to do
        yield False, str(problem), "Remove [emotion] ensemble to use the shipped weights." if named else ""
    else:
        members = ", ".join(ensemble.member_names)
        yield True, f"{ensemble.ensemble_id}: {members}; {len(ensemble.labels)} emotions", ""


def _words(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    """The model of words and the folders of transcripts, where settings name any."""
    if settings.words_model is not None:
        from callanalytics.analysis.words.recogniser import load_model
        from ensemble.model_errors import ModelError

        try:
            load_model(settings.words_model)
        except (ModelError, UsageError) as problem:
            yield False, str(problem), "Correct model in [words] of config.toml."
        else:
            yield True, f"a model recognises {settings.words.what} ({settings.words_model})", ""
    for folder in settings.transcript_folders:
        there = folder.is_dir()
        fix = "" if there else "Correct transcripts in [words] of config.toml."
        yield there, f"transcripts in {folder}" if there else f"no such folder: {folder}", fix


def _notify(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    """The environment variables with addresses, where settings name any; nothing is sent."""
    from jobs.scheduler.notify import unusable_addresses

    names = settings.notify.urls_from
    problems = unusable_addresses(names)
    for problem in problems:
        yield False, problem, "Set it where the schedule is started, too, or correct urls_from in [notify]."
    if names and not problems:
        yield True, f"{', '.join(names)}: addresses that Apprise knows", ""


def _disk(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    existing = next(p for p in (workspace.folder, *workspace.folder.absolute().parents) if p.exists())
    free = shutil.disk_usage(existing).free
    enough = free >= LOW_DISK_BYTES and os.access(existing, os.W_OK)
    fix = f"Free at least {LOW_DISK_BYTES / 1e9:.0f} GB, or allow writing there."
    yield enough, f"{free / 1e9:.1f} GB free at {existing}", fix


def _salt(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    salt = workspace.folder / settings.privacy.salt_file
    fix = "Restore it from a backup; else the next run makes a new one, and repeat callers count anew."
    if not salt.exists():
        if workspace.has_results:
            yield False, f"{salt}: gone", fix
        else:
            yield True, f"none yet at {salt}: the first run makes it", ""
        return
    found = salt.stat()
    if found.st_size == 0:
        yield False, f"{salt}: empty", fix
    elif found.st_mode & 0o077:
        mode = stat.filemode(found.st_mode)
        fix = f"Others can find out callers' numbers with it: {shlex.join(['chmod', '600', str(salt)])}"
        yield False, f"{salt}: open to others ({mode})", fix
    else:
        load_or_make_salt(salt)
        yield True, f"{salt}: for its owner only", ""


def _zone(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    local = datetime.now(UTC).astimezone(settings.time.zone_info)
    found = f'{settings.time.zone_info.key}, now {local:%Y-%m-%d %H:%M} ("yesterday" is read in it)'
    if (machine := machine_zone()) != settings.time.zone_info.key:
        found += f"; the clock of this machine is in {machine}"
    yield True, found, ""


def _database(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    from callanalytics.store.query import run_query

    database = workspace.database
    if not database.exists():
        yield True, f"none yet at {database}: the first run makes it", ""
        return
    try:
        n_calls = run_query(database, "SELECT count(*) FROM call_summary", max_rows=1).item()
    except CallAnalyticsError as problem:
        yield False, str(problem), "Run again: publishing writes a fresh copy."
    else:
        yield True, f"{database}: {counted(n_calls, 'call')}", ""
        yield from _in_step(workspace)


def _in_step(workspace: Workspace) -> Iterator[_Answer]:
    """What is wrong where one of the two databases was put back from a backup, without the other."""
    import duckdb

    from callanalytics.store.open import check_not_older, held_elsewhere, unusable
    from callanalytics.store.publish import is_same

    if not workspace.work_database.exists():
        return  # the next run makes it of the published one
    try:
        with duckdb.connect(workspace.work_database, read_only=True) as working:
            check_not_older(working, workspace)
            if workspace.unpublished_mark.exists() or is_same(workspace, working):
                return
    except StoreError as problem:
        yield _parted(problem)
    except (duckdb.BinderException, duckdb.CatalogException):
        return  # of an earlier version: the next run brings it up to date
    except duckdb.Error as problem:
        if not held_elsewhere(problem):  # by a run, say
            yield _parted(unusable(workspace, problem))
    else:
        found = f"{workspace.database}: not what was published last, as when it was put back from a backup"
        yield False, found, "Run again: it is published anew."


def _parted(problem: StoreError) -> _Answer:
    """What was found and, from the second line on, what to do."""
    found, _, fix = str(problem).partition("\n")
    return False, found, fix


def _erasures(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    from jobs.maintenance.purge import verify_erasures

    if not workspace.erasures.exists():
        return
    try:
        salt = salt_of_results(workspace.folder / settings.privacy.salt_file)
    except StoreError:
        yield False, f"{workspace.erasures}: cannot be verified without the salt", "Restore the salt."
        return
    n_lines, wrong = verify_erasures(workspace.erasures, salt)
    found = f"{workspace.erasures}: {n_lines} signed lines"
    fix = "It was changed, or the salt of the folder is a new one. Compare it with a backup."
    yield wrong is None, found + (f", line {wrong} is not as it was signed" if wrong else ""), fix


def _blocks(settings: Settings, workspace: Workspace) -> Iterator[_Answer]:
    import duckdb

    from callanalytics.store.open import held_elsewhere, log_of, read_whole, unusable

    published, work = workspace.database, workspace.work_database
    for database in (published, work):
        if not database.exists():
            continue
        try:
            with duckdb.connect(database, read_only=True) as connection:
                read_whole(connection)
        except duckdb.Error as problem:
            if held_elsewhere(problem):
                yield True, f"{database}: in use by another process, not read", ""
            elif database == work:
                yield _parted(unusable(workspace, problem))
            else:
                reason = str(problem).splitlines()[0]
                yield False, f"{database}: {reason}", "Run again: publishing writes a fresh copy."
        else:
            size_mb = sum(path.stat().st_size for path in (database, log_of(database)) if path.exists()) / 1e6
            yield True, f"{database}: every block read, {size_mb:.1f} MB", ""


_DEEP_CHECKS = {"blocks": _blocks}
_CHECKS: dict[str, Callable[[Settings, Workspace], Iterator[_Answer]]] = {
    "python": _python,
    "settings": _settings,
    "inputs": _inputs,
    "decoders": _decoders,
    "clips": _clips,
    "voice models": _voice_models,
    "device": _device,
    "ensemble": _ensemble,
    "words": _words,
    "notify": _notify,
    "disk": _disk,
    "zone": _zone,
    "salt": _salt,
    "database": _database,
    "erasures": _erasures,
}

"""All sources about one recording -> its facts. Sidecar before manifest, manifest before name, name
before file time; each fact keeps the source that gave it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from fnmatch import fnmatch
from pathlib import Path
from zoneinfo import ZoneInfo

from callanalytics.config import RecorderSettings, Settings
from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders.fields import NUMBERS, TEXTS, Found
from callanalytics.ingest.recorders.manifests import Manifest
from callanalytics.ingest.recorders.phone_numbers import alias_of, hash_number, is_phone, significant_digits
from callanalytics.ingest.recorders.profiles import BUILT_IN, Profile, templated
from callanalytics.ingest.recorders.sidecars import check_template, read_sidecar
from callanalytics.ingest.recorders.stamps import LONGEST, MOMENT, USUAL, days_in
from callanalytics.records import CallFacts, Direction, Role, RoleSource, StatedRoles, TimeSource
from callanalytics.records.text import TimeDoubt

# Who dialled, or who was dialled; where the direction is unknown either end may be the customer.
_CUSTOMER_END: dict[object, tuple[str, ...]] = {
    Direction.INBOUND: ("from_number",),
    Direction.OUTBOUND: ("to_number",),
}
AN_HOUR, A_DAY = timedelta(hours=1), timedelta(days=1)


@dataclass(frozen=True)
class _Recorder:
    """One `[[recorder]]` table, ready to read names."""

    settings: RecorderSettings
    profile: Profile
    zone: ZoneInfo
    manifest: Manifest | None

    def applies_to(self, path: Path) -> bool:
        roots = self.settings.roots
        folder = path.parent.as_posix()
        return not roots or any(fnmatch(folder, r) or fnmatch(folder + "/", r) for r in roots)


@dataclass(frozen=True)
class FactReader:
    """The facts that names, sidecars and manifests state about recordings.

    Made once per run: compiles templates, loads manifests.

    Raises:
        ConfigError: a template or manifest of `[[recorder]]` cannot be used.
    """

    settings: Settings
    salt: bytes
    _recorders: tuple[_Recorder, ...] = field(init=False)
    _listed: dict[str, frozenset[str]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        made = tuple(_make(self.settings, r) for r in self.settings.recorder)
        object.__setattr__(self, "_recorders", made)

    def read(self, path: Path, modified_at: datetime, *, stem: str | None = None) -> CallFacts:
        """Facts of the recording at `path`; `stem` overrides its name without extension (pairs).

        `modified_at` is the last resort for the start, and then its source says so.
        """
        recorder, names = self._by_name(path, stem or path.stem)
        zone = recorder.zone if recorder else self.settings.time.zone_info
        sidecar = read_sidecar(
            path,
            zone,
            max_bytes=self.settings.discovery.max_sidecar_bytes,
            names=self._names_beside(path),
            stem=stem,
            template=recorder.settings.sidecar if recorder else None,
            follow_links=self.settings.discovery.follow_links,
        )
        row = None
        if recorder and recorder.manifest:
            row = recorder.manifest.find(path, stem, None)
            if row is None and (known_id := _first(names, "external_id")):
                row = recorder.manifest.find(path, stem, str(known_id))
                row = row and _of_part(row, _first(names, "started_at"))
        sources = (("sidecar", sidecar), ("manifest", row), *(("name", name) for name in names))
        stated = [(source, found) for source, found in sources if found is not None]
        facts = self._weigh(stated, names[0] if names else None, recorder, zone, modified_at)
        if facts.started_at_source is TimeSource.FILE_TIME and "conflict" not in facts.sources:
            day = modified_at.astimezone(zone).date()
            days = days_in(path, stem or path.stem, zone)
            # A call that goes on at midnight is written on the next day.
            if days and not {day, day - A_DAY} & {*days}:
                # The day is not shown: its digits may be a caller's number.
                return replace(facts, sources={**facts.sources, "conflict": TimeDoubt.OTHER_DAY.value})
        return facts

    def name_date(self, path: Path, stem: str) -> datetime | None:
        """The start of the call as its name alone says it."""
        started_at = _first(self._by_name(path, stem)[1], "started_at")
        return started_at if isinstance(started_at, datetime) else None

    def unread_lines(self) -> Iterator[tuple[Path, int, str]]:
        """Manifests with lines that cannot be read: the file, how many, and which."""
        for recorder in self._recorders:
            if (manifest := recorder.manifest) and manifest.n_unread:
                few = ", ".join(map(str, manifest.unread))
                more = ", ..." if manifest.n_unread > len(manifest.unread) else ""
                yield manifest.path, manifest.n_unread, f"line {few}{more}"

    def _names_beside(self, path: Path) -> frozenset[str]:
        """Names in the folder of `path`, listed once per run: asking for every possible sidecar of
        100,000 files would take longer than all the rest."""
        folder = os.path.dirname(path)  # noqa: PTH120 - a Path would be made per file
        if folder not in self._listed:
            try:
                self._listed[folder] = frozenset(os.listdir(folder or "."))  # noqa: PTH208
            except OSError:
                self._listed[folder] = frozenset()
        return self._listed[folder]

    def _by_name(self, path: Path, stem: str) -> tuple[_Recorder | None, list[Found]]:
        """What recognisers read in the name, the one that it is believed to be of first."""
        fallback: _Recorder | None = None
        for recorder in self._recorders:
            if recorder.applies_to(path):
                found = recorder.profile.read(path, stem, recorder.zone)
                if found is not None:
                    return recorder, [found, *_dates(recorder, found, path, stem)]
                if recorder.manifest or recorder.settings.sidecar:
                    fallback = fallback or recorder
        names: list[Found] = []
        zone = fallback.zone if fallback else self.settings.time.zone_info
        for profile in BUILT_IN:
            if (names and profile.whole) or (found := profile.read(path, stem, zone)) is None:
                continue
            names.append(_filling(names, found))
            if profile.whole:
                break
        return fallback, names

    def _weigh(
        self,
        stated: list[tuple[str, Found]],
        name: Found | None,
        recorder: _Recorder | None,
        zone: ZoneInfo,
        modified_at: datetime,
    ) -> CallFacts:
        facts: dict[str, object] = {}
        sources: dict[str, str] = {}
        for source, found in stated:
            for key, value in found.facts.items():
                if key not in facts:
                    facts[key] = value
                    sources[key] = source if source != "name" else f"name ({found.recorder})"
        if (apart := _apart(stated)) is not None:
            facts.setdefault("conflict", apart)
        for note in ("zone_note", "conflict", "sidecar_note"):
            if note in facts:
                sources[note] = str(facts.pop(note))
        ends = _CUSTOMER_END.get(facts.get("direction"), ("from_number", "to_number"))
        number, number_source = _customer(stated, ends[0])
        caller_hash = hash_number(number, self.salt) if number is not None else None
        if caller_hash is not None:
            sources["caller_hash"] = number_source
        for key in NUMBERS:
            facts.pop(key, None)
            sources.pop(key, None)
        theirs = ("caller_number", "other_number", *ends)
        numbers = [str(f.facts[n]) for _, f in stated for n in theirs if n in f.facts]
        _drop_numbers(facts, sources, numbers)
        stated_roles = tuple(_stated_roles(stated, recorder))
        facts.pop("channel_roles", None)
        if recorder and recorder.settings.channels:
            sources["channel_roles"] = "config"
        started_at = facts.get("started_at")
        source = sources.get("started_at", "file_time").split(" ")[0]
        if isinstance(started_at, datetime):
            if started_at - modified_at > A_DAY:
                sources.setdefault("conflict", TimeDoubt.AFTER_FILE.format(source=source))
            local = started_at.astimezone(zone)
            if not local.fold and local.utcoffset() != local.replace(fold=1).utcoffset():
                sources.setdefault("zone_note", TimeDoubt.HOUR_TWICE.format(zone=zone.key))
        best = name or (stated[0][1] if stated else None)
        return CallFacts(
            recorder=recorder.settings.name if recorder and name else (best.recorder if best else "none"),
            recorder_confidence=best.confidence if best else 0.0,
            started_at=started_at if isinstance(started_at, datetime) else modified_at,
            started_at_source=TimeSource(source if isinstance(started_at, datetime) else "file_time"),
            zone=zone.key,
            direction=Direction(str(facts.get("direction", Direction.UNKNOWN))),
            caller_hash=caller_hash,
            stated_roles=stated_roles,
            conversation_share=recorder.settings.conversation_share if recorder else None,
            sources=sources,
            aliases=_aliases(numbers, self.salt),
            **{key: facts.get(key) for key in (*TEXTS, "expected_duration_s", "answered_s", "hold_s")},  # type: ignore[arg-type]
        )


def _first(names: Iterable[Found], fact: str) -> object:
    return next((found.facts[fact] for found in names if fact in found.facts), None)


def _apart(stated: Iterable[tuple[str, Found]]) -> str | None:
    """What is to be said where the two best sources of the start disagree, as of two zones."""
    starts: dict[str, datetime] = {}
    for source, found in stated:
        if isinstance(at := found.facts.get("started_at"), datetime):
            starts.setdefault(source, at)
    if len(starts) < 2:
        return None
    (best, at), (other, other_at), *_ = starts.items()
    apart = abs(at - other_at)
    # A name may hold no more than the hour.
    if apart < AN_HOUR - MOMENT:
        return None
    return TimeDoubt.STARTS_APART.format(best=best, other=other, apart=apart)


def _of_part(row: Found, named_at: object) -> Found:
    """What a row about a whole call says of one of its recordings, which has a stamp of its own.

    A call that was passed on has several recordings and one row: each keeps its stamp, and one that began
    after the answer is a later part, of which the row knows no length.
    """
    called_at = row.facts.get("started_at")
    if not isinstance(called_at, datetime) or not isinstance(named_at, datetime):
        return row
    later = named_at - called_at
    if not MOMENT < later <= LONGEST:
        return row
    facts = {key: value for key, value in row.facts.items() if key not in ("started_at", "answered_s")}
    answered_s = row.facts.get("answered_s")
    answered = timedelta(seconds=answered_s if isinstance(answered_s, float) else 0.0)
    if later > answered + MOMENT:
        facts.pop("expected_duration_s", None)
    elif isinstance(answered_s, float):
        facts["answered_s"] = max((answered - later).total_seconds(), 0.0)
    if later > USUAL:
        facts["conflict"] = TimeDoubt.AFTER_MANIFEST.format(later=later)
    return Found(row.recorder, row.confidence, facts)


def _filling(names: Sequence[Found], found: Found) -> Found:
    """What a further recogniser adds: a number only where none is known, sides never."""
    if not names:
        return found
    kept = {key: value for key, value in found.facts.items() if key != "channel_roles"}
    if any(key in name.facts for name in names for key in NUMBERS):
        kept = {key: value for key, value in kept.items() if key not in NUMBERS}
    return Found(found.recorder, found.confidence, kept)


def _dates(recorder: _Recorder, found: Found, path: Path, stem: str) -> list[Found]:
    """The date, where the user's own profile reads none; the rest of a name it leaves out on purpose."""
    stamp = BUILT_IN[-1].read(path, stem, recorder.zone) if "started_at" not in found.facts else None
    if stamp is None:
        return []
    kept = {key: value for key, value in stamp.facts.items() if key in ("started_at", "conflict")}
    return [Found(stamp.recorder, stamp.confidence, kept)]


def _customer(stated: list[tuple[str, Found]], end: str) -> tuple[str | None, str]:
    """The customer's number, where it was found under its own name or as one `end` of the call."""
    for source, found in stated:
        for key in ("caller_number", end):
            if key in found.facts:
                return str(found.facts[key]), source if source != "name" else f"name ({found.recorder})"
    return None, ""


def _aliases(numbers: Iterable[str], salt: bytes) -> dict[str, str]:
    """Significant digits of every phone number -> what stands for it in names."""
    return {significant_digits(number): alias_of(number, salt) for number in numbers if is_phone(number)}


def _drop_numbers(facts: dict[str, object], sources: dict[str, str], numbers: Iterable[str]) -> None:
    """Forget every text that holds a phone number that some source stated: only its hash is kept."""
    phones = {significant_digits(number) for number in numbers if is_phone(number)}
    if not phones:
        return
    for key in TEXTS:
        if key not in facts:
            continue
        digits = re.sub(r"\D", "", str(facts[key]))
        if any(phone in digits for phone in phones):
            del facts[key]
            sources[key] = "dropped: holds a phone number"


# How often the agent is on the channel that the source says: settings are written and looked at once, data
# are made by a program for each call, and what a recorder usually does it does nearly always.
_CONFIGURED, _IN_DATA, _HABIT = 0.999, 0.995, 0.995
_CONFIGURED_KIND = 0.99  # that a name in a table of the user's is of the recorder that the table names


def _stated_roles(stated: Iterable[tuple[str, Found]], recorder: _Recorder | None) -> Iterator[StatedRoles]:
    """The channel roles of every source that states them.

    A name tells the recorder only with some confidence. Where it does not, the channels may lie either way.
    """
    if recorder and recorder.settings.channels:
        left, right = map(Role, recorder.settings.channels)
        yield StatedRoles(RoleSource.RECORDER, (left, right), _CONFIGURED, "your settings")
    for source, found in stated:
        roles = found.facts.get("channel_roles")
        if not isinstance(roles, tuple):
            continue
        if source != "name":
            yield StatedRoles(RoleSource.SIDECAR, roles, _IN_DATA, f"the {source}")
            continue
        is_set = recorder is not None and recorder.settings.kind == found.recorder
        is_kind = max(found.confidence, _CONFIGURED_KIND if is_set else 0.0)
        words = f"the name, which looks like {found.recorder} ({is_kind:.0%})"
        yield StatedRoles(RoleSource.RECORDER, roles, is_kind * _HABIT + (1 - is_kind) / 2, words)


def _make(settings: Settings, recorder: RecorderSettings) -> _Recorder:
    where = f"{settings.source}: [[recorder]] {recorder.name!r}"
    zone = ZoneInfo(recorder.zone) if recorder.zone else settings.time.zone_info
    if recorder.template is not None:
        profile = templated(recorder.kind, recorder.template, where=where)
    elif recorder.kind == "template":
        raise ConfigError(
            f'{where}: kind = "template" needs a template, for example "{{FULLDATE}}_{{AGENT}}".'
        )
    else:
        profile = next(p for p in BUILT_IN if p.kind == recorder.kind)
    if recorder.sidecar is not None:
        check_template(recorder.sidecar, where=where)
    manifest = None
    if recorder.manifest is not None:
        manifest = Manifest(settings.folder / recorder.manifest, zone, recorder.manifest_columns)
    return _Recorder(recorder, profile, zone, manifest)

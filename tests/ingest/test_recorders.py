"""Names, sidecars and manifests of real recorders -> facts."""

from __future__ import annotations

import json
import os
import re
import time
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from callanalytics.config import DiscoverySettings, RecorderSettings, Settings, TimeSettings
from callanalytics.errors import ConfigError, StoreError
from callanalytics.ingest import find_recordings
from callanalytics.ingest.check import check_paths, render_checked
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.ingest.recorders.fields import Found, facts_of
from callanalytics.ingest.recorders.phone_numbers import hash_number, load_or_make_salt
from callanalytics.ingest.recorders.profiles import templated
from callanalytics.records import CallFacts, Direction, Role, RoleSource, TimeSource
from callanalytics.records.text import hide_numbers

FILE_TIME = datetime(2026, 11, 20, 18, 0, tzinfo=UTC)
SALT = b"0123456789abcdef"
UUID = "27b8de27-e69c-532b-8889-9f8f4061e80e"


def read(path: str | Path, *recorders: RecorderSettings, zone: str = "UTC") -> CallFacts:
    settings = Settings(recorder=recorders, time=TimeSettings(zone=zone))
    return FactReader(settings, SALT).read(Path(path), FILE_TIME)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "recorder", "started_at", "facts"),
    [
        (
            "2026/11/20/q-600-2025550112-20261120-083412-1795163652.410.wav",
            "freepbx", "2026-11-20T08:34:12",
            {"queue": "600", "direction": Direction.INBOUND, "external_id": "1795163652.410"},
        ),
        (
            "out-2025550112-204-20261120-083412-1795163652.410.wav", "freepbx", "2026-11-20T08:34:12",
            {"agent_id": "204", "direction": Direction.OUTBOUND},
        ),
        (
            "exten-204-2025550112-20261120-083412-1795163652.410.wav", "freepbx", "2026-11-20T08:34:12",
            {"agent_id": "204", "direction": Direction.INBOUND},
        ),
        (
            "20261120-094103_2025550127_1004-all.mp3", "vicidial", "2026-11-20T09:41:03",
            {"agent_id": "1004", "channel_roles": (Role.AGENT, Role.CALLER)},
        ),
        (
            f"CallRecordings/2026/11/20/{UUID}_20261120T10:48_UTC.wav", "connect", "2026-11-20T10:48:00",
            {"external_id": UUID, "channel_roles": (Role.CALLER, Role.AGENT)},
        ),
        (f"{UUID}_20261120T10-48_UTC.wav", "connect", "2026-11-20T10:48:00", {}),
        (
            "Auto0_GUID_000_AGENT_ChrisL_DT_2025-02-19T06-01-22_Mono.wav", "generic", "2025-02-19T06:01:22",
            {"agent_id": "ChrisL", "external_id": "000"},
        ),
        (
            "year=2026/month=11/day=20/hour=11/conversation_id=abc/def.opus",
            "genesys", "2026-11-20T11:00:00", {"external_id": "abc"},
        ),
        ("GMT20261120-120000_Recording.m4a", "stamp", "2026-11-20T12:00:00", {}),
        ("call of 2026-11-20 08.15.30.wav", "stamp", "2026-11-20T08:15:30", {}),
    ],
)  # fmt: skip
def test_names_of_known_recorders(
    path: str, recorder: str, started_at: str, facts: dict[str, object]
) -> None:
    found = read(path)
    assert found.recorder == recorder
    assert found.started_at == utc(started_at)
    assert found.started_at_source is TimeSource.NAME
    for name, value in facts.items():
        assert getattr(found, name) == value


def test_a_name_that_says_nothing_is_dated_by_the_file_and_says_so() -> None:
    found = read("0002f70f7386445b.wav")
    assert (found.recorder, found.started_at, found.started_at_source) == (
        "none",
        FILE_TIME,
        TimeSource.FILE_TIME,
    )


def test_fusionpbx_gives_an_id_and_leaves_the_rest_to_the_cdr() -> None:
    found = read(f"archive/2026/Nov/20/{UUID}.mp3")
    assert (found.recorder, found.external_id) == ("fusionpbx", UUID)
    assert found.started_at_source is TimeSource.FILE_TIME


def test_local_stamps_are_read_in_the_zone_and_the_unique_id_settles_the_repeated_hour() -> None:
    assert read("20261120-094103_2025550127.wav", zone="America/New_York").started_at == utc(
        "2026-11-20T14:41:03"
    )
    second_pass = read("q-1-2-20261025-023000-1792891800.1.wav", zone="Europe/Berlin")
    assert second_pass.started_at == utc("2026-10-25T01:30:00")
    assert "zone_note" not in second_pass.sources, "the stamp fits the second pass"
    wrong_zone = read("q-1-2-20261025-023000-1792891800.1.wav", zone="America/New_York")
    assert wrong_zone.started_at == second_pass.started_at
    assert "America/New_York" in wrong_zone.sources["zone_note"]


def test_a_template_of_the_user_comes_first() -> None:
    table = RecorderSettings(
        name="dialer", kind="vicidial", template="CAMPAIGN_FULLDATE_CUSTPHONE", zone="Europe/Berlin",
        channels=("agent", "caller"),
    )  # fmt: skip
    found = read("spring_20261120-094103_2025550127-all.wav", table)
    assert (found.recorder, found.campaign) == ("dialer", "spring")
    assert found.started_at == utc("2026-11-20T08:41:03")
    assert found.channel_roles == (Role.AGENT, Role.CALLER)
    assert found.channel_roles_source is RoleSource.RECORDER


def test_a_table_with_roots_applies_there_only() -> None:
    table = RecorderSettings(name="x", kind="template", template="{AGENT}_{FULLDATE}", roots=("*/dialer",))
    assert read("/mnt/dialer/kim_20261120-094103.wav", table).recorder == "x"
    assert read("/mnt/other/kim_20261120-094103.wav", table).recorder == "stamp"


@pytest.mark.parametrize("template", ["{NONSENSE}_{FULLDATE}", "plain"])
def test_a_bad_template_is_a_config_error(template: str) -> None:
    with pytest.raises(ConfigError, match="template"):
        templated("template", template, where="here")


def test_a_sidecar_outranks_the_name(tmp_path: Path) -> None:
    audio = tmp_path / "20261120-094103_2025550127_1004-all.wav"
    audio.touch()
    said = {
        "startTime": "2026-11-20T09:41:00.500+0200",
        "participants": {"agentName": "Kim"},
        "ani": "tel:+12025550127",
    }
    (tmp_path / f"{audio.name}.json").write_text(json.dumps(said))
    found = read(audio)
    assert found.started_at == datetime(2026, 11, 20, 7, 41, 0, 500000, tzinfo=UTC)
    assert found.started_at_source is TimeSource.SIDECAR
    assert (found.agent_name, found.agent_id) == ("Kim", "1004")
    assert found.sources["agent_id"] == "name (vicidial)"
    assert found.caller_hash == hash_number("2025550127", SALT)


@pytest.mark.parametrize(
    ("document", "number", "expected"),
    [
        (  # Twilio: recording resource
            {
                **{"sid": "RE557ce644e5ab84fa21cc21112e22c485", "call_sid": "CA1", "account_sid": "AC1"},
                **{"start_time": "Thu, 27 Mar 2025 08:25:17 +0000", "duration": "61", "channels": 2},
                "date_created": "Thu, 27 Mar 2025 08:25:16 +0000",
            },
            None,
            {"external_id": "CA1", "expected_duration_s": 61.0},
        ),
        (  # RingCentral: call log record of an incoming and of an outgoing call
            {
                **{"id": "Tw", "sessionId": "9", "startTime": "2025-03-27T08:25:17.000Z", "duration": 61},
                **{"type": "Voice", "direction": "Inbound", "result": "Accepted"},
                "from": {"phoneNumber": "+12025550143", "name": "WIRELESS CALLER"},
                "to": {"phoneNumber": "+14155550100", "extensionNumber": "101"},
                "recording": {"id": "7", "contentUri": "https://media.example.org/7"},
            },
            "+12025550143",
            {"external_id": "Tw", "agent_id": "101", "direction": Direction.INBOUND},
        ),
        (
            {
                **{"id": "Tx", "startTime": "2025-03-27T08:25:17Z", "duration": 61, "direction": "Outbound"},
                "from": {"phoneNumber": "+14155550100", "extensionNumber": "101"},
                "to": {"phoneNumber": "+12025550143"},
            },
            "+12025550143",
            {"external_id": "Tx", "agent_id": "101", "direction": Direction.OUTBOUND},
        ),
        (  # Zoom Phone: list of recordings
            {
                **{"call_id": "7072598989368295984", "id": "f0", "date_time": "2025-03-27T08:25:17Z"},
                **{"caller_number": "12025550143", "callee_number": "14155550100", "direction": "inbound"},
                **{"duration": 61, "owner": {"type": "user", "name": "A", "extension_number": 101}},
            },
            "12025550143",
            {"external_id": "7072598989368295984", "agent_id": "101", "direction": Direction.INBOUND},
        ),
        (  # Talkdesk: recording details
            {
                **{"id": "r1", "call_id": "c1", "created_at": "2025-03-27T08:25:17Z", "duration": 61},
                "agents": {
                    "channel_1": [{"participant_type": "CONTACT", "participant_id": "x"}],
                    "channel_2": [{"participant_type": "AGENT", "participant_id": "y"}],
                },
            },
            None,
            {"external_id": "c1", "channel_roles": (Role.CALLER, Role.AGENT)},
        ),
        *(
            (  # Webex Calling: metadata of a converged recording, of who called and of who was called
                {
                    **{"id": "81bb582c", "ownerId": "o", "ownerName": "Kim", "serviceType": "calling"},
                    "serviceData": {
                        **{"callSessionId": "fe2f", "personality": personality, "callId": "callhalf-5:0"},
                        "callingParty": {"actor": {"type": "USER", "id": "x"}, "number": calling},
                        "calledParty": {"actor": {"type": "USER", "id": "y"}, "number": called},
                        "session": {"startTime": "2025-03-27T08:25:17Z", "stopTime": "2025-03-27T08:30:19Z"},
                    },
                },
                "+12025550143",
                {"external_id": "callhalf-5:0", "agent_name": "Kim", "direction": direction},
            )
            for personality, calling, called, direction in (
                ("terminator", "sip:+12025550143@a.b", "sip:4060@a.b;user=phone", Direction.INBOUND),
                ("originator", "sip:4060@a.b", "sip:+12025550143@a.b;user=phone", Direction.OUTBOUND),
            )
        ),
    ],
    ids=["twilio", "ringcentral in", "ringcentral out", "zoom phone", "talkdesk", "webex in", "webex out"],
)
def test_documents_of_recorders(
    tmp_path: Path, document: dict[str, object], number: str | None, expected: dict[str, object]
) -> None:
    (tmp_path / "RE557ce644e5ab84fa21cc21112e22c485.json").write_text(json.dumps(document), encoding="utf-8")
    found = read(tmp_path / "RE557ce644e5ab84fa21cc21112e22c485.wav")
    assert found.started_at == datetime(2025, 3, 27, 8, 25, 17, tzinfo=UTC)
    assert found.caller_hash == (hash_number(number, SALT) if number else None)
    assert {name: getattr(found, name) for name in expected} == expected
    assert found.recorder == "twilio"


def test_the_archive_of_genesys_engage_has_one_document_a_recording(tmp_path: Path) -> None:
    call_id = "011AP643CSAPR4FKQGQE31TAES00029V"
    (tmp_path / call_id).mkdir()
    document = {
        **{"id": call_id, "callerPhoneNumber": "+12025550143", "dialedPhoneNumber": "+14160000001"},
        **{"startTime": "2025-03-27T08:25:17.500+0000", "stopTime": "2025-03-27T08:30:34.000+0000"},
        "mediaFiles": [{"startTime": "2025-03-27T08:26:00.000+0000", "duration": "12523", "size": "199296"}],
    }
    (tmp_path / call_id / "recording.json").write_text(json.dumps(document), encoding="utf-8")
    found = read(tmp_path / call_id / f"{call_id}_2025-03-27_08-25-17-006B015F-1000427D-00000001.mp3")
    assert (found.recorder, found.external_id) == ("genesys-engage", call_id)
    assert found.started_at == datetime(2025, 3, 27, 8, 25, 17, 500000, tzinfo=UTC)
    assert found.caller_hash == hash_number("+12025550143", SALT)
    assert found.expected_duration_s is None, "that of the media file is in milliseconds"
    other = read(tmp_path / call_id / "another.mp3")
    assert other.started_at_source is TimeSource.FILE_TIME, "whose document it is, its name does not say"


def test_who_called_on_3cx_names_the_agent_on_calls_that_go_out() -> None:
    assert read("[Doe, Jo]_124-2025550143_20250327082517(152).wav").agent_name == "Doe, Jo"
    incoming = read("[Jo the Caller]_2025550143-124_20250327082517(152).wav")
    assert (incoming.agent_name, incoming.agent_id) == (None, "124")


def test_a_five9_name_states_campaign_and_session(tmp_path: Path) -> None:
    session = "CB3E712B7E084D8A9BD23381B216E482300000002866719"
    found = read(f"8_25_2025/2025550143Outbound - Care by kdoe @ 7_16_55 AM{session}.wav")
    assert (found.campaign, found.agent_id, found.external_id) == ("Outbound - Care", "kdoe", session)
    assert found.started_at == utc("2025-08-25T07:16:55")
    assert read("13_40_2025/2025550143 by kdoe @ 7_16_55 AM.wav").started_at_source is TimeSource.FILE_TIME


def test_channels_of_two_agents_or_of_none_say_nothing_of_the_sides(tmp_path: Path) -> None:
    for one, two in (("AGENT", "AGENT"), ("CONTACT", "CONTACT"), ("AGENT", "")):
        channels = {
            "channel_1": [{"participant_type": one}],
            "channel_2": [{"participant_type": two}] if two else 7,
        }
        (tmp_path / "a.json").write_text(json.dumps({"agents": channels}), encoding="utf-8")
        assert read(tmp_path / "a.wav").channel_roles == ()


def test_a_sidecar_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "metadata").mkdir()
    (tmp_path / "metadata" / "a1.json").write_text('{"start_time_ms": 1591056783191, "sid": "a1"}')
    table = RecorderSettings(name="bank", kind="generic", sidecar="../metadata/{stem}.json")
    found = read(tmp_path / "audio" / "a1.wav", table)
    assert found.started_at == datetime(2020, 6, 2, 0, 13, 3, 191000, tzinfo=UTC)
    assert found.started_at_source is TimeSource.SIDECAR


@pytest.mark.parametrize(
    "content",
    [b"", b"[1, 2]", b"not json", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 5000,
     b'{"startTime": 1e400}', b'{"startTime": "99999-01-01"}', b'{"duration": -1, "direction": 7}'],
)  # fmt: skip
def test_a_damaged_sidecar_never_stops_a_call(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.wav.json").write_bytes(content)
    found = read(tmp_path / "a.wav")
    assert found.started_at_source is TimeSource.FILE_TIME


@pytest.mark.parametrize(
    "content", [b"", b"not json", '{"agent": "M\xfcller"}'.encode("latin-1"), b'{"agent": "kim"']
)
def test_a_sidecar_that_cannot_be_read_is_counted_and_said(tmp_path: Path, content: bytes) -> None:
    audio = tmp_path / "a.wav"
    audio.write_bytes(b"RIFF")
    (tmp_path / "a.wav.json").write_bytes(content)
    settings = Settings(discovery=DiscoverySettings(settle_s=0))
    found = find_recordings([tmp_path], settings, window=None, now=datetime.now(UTC), salt=SALT)
    assert found.skip_counts == {"sidecars_unread": 1}
    assert [one.facts.recorder for one in found.recordings] == ["none"]
    said = render_checked(check_paths([tmp_path], settings))
    assert "note: its sidecar cannot be read as JSON" in said
    assert said.count("a.wav") == 1
    (tmp_path / "a.json").write_text('{"agent": "kim"}')
    again = find_recordings([tmp_path], settings, window=None, now=datetime.now(UTC), salt=SALT)
    assert (again.recordings[0].facts.agent_id, again.skip_counts) == ("kim", {})


@pytest.mark.parametrize(
    ("start", "key", "words"),
    [
        ("2026-11-20T09:34:12Z", "conflict", "sidecar and name state starts that are 2:00:00 apart"),
        ("2026-11-20T08:34:12Z", "conflict", "1:00:00 apart"),
        ("2026-11-20T07:59:12Z", "conflict", ""),
        ("2027-11-20T08:34:12Z", "conflict", "apart"),
        ("2026-10-25T02:30:00", "zone_note", "twice"),
        ("2026-10-25T01:30:00Z", "zone_note", ""),
    ],
)
def test_sources_that_disagree_about_the_start_are_noted(
    tmp_path: Path, start: str, key: str, words: str
) -> None:
    name = "20261120-083412_2025550143.wav" if key == "conflict" else "a.wav"
    (tmp_path / f"{name}.json").write_text(json.dumps({"start_time": start}), encoding="utf-8")
    said = read(tmp_path / name, zone="Europe/Berlin").sources.get(key, "")
    assert words in said
    assert bool(words) == bool(said)


def test_a_sidecar_of_the_future_is_noted(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"start_time": "2127-11-20T08:34:12Z"}')
    assert read(tmp_path / "a.wav").sources["conflict"] == "the sidecar states a time after that of the file"


def test_a_huge_sidecar_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.wav.json").write_bytes(b'{"agent_id": "7", "x": "' + b"a" * 2_000_000 + b'"}')
    assert read(tmp_path / "a.wav").agent_id is None


def test_a_sidecar_behind_a_link_is_read_only_on_request(tmp_path: Path) -> None:
    (tmp_path / "secret.json").write_text('{"agent_id": "secret"}')
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "call.wav.json").symlink_to(tmp_path / "secret.json")
    os.mkfifo(tmp_path / "in" / "pipe.wav.json")
    audio = tmp_path / "in" / "call.wav"
    assert read(audio).agent_id is None
    assert read(tmp_path / "in" / "pipe.wav").agent_id is None
    following = Settings(discovery=DiscoverySettings(follow_links=True))
    assert FactReader(following, SALT).read(audio, FILE_TIME).agent_id == "secret"


def test_a_manifest_is_joined_by_file_name_or_id(tmp_path: Path) -> None:
    (tmp_path / "cdr.csv").write_text(
        "calldate,src,dst,billsec,uniqueid,recordingfile,cc_queue\n"
        "2026-11-20 08:34:12,2025550112,600,67,1795163652.410,/var/spool/a.wav,billing\n"
        f"2026-11-20 09:00:00,2025550113,601,50,{UUID},,sales\n"
    )
    table = RecorderSettings(name="pbx", kind="fusionpbx", manifest="cdr.csv", zone="Europe/Berlin")
    settings = Settings(folder=tmp_path, recorder=(table,))
    reader = FactReader(settings, SALT)
    by_name = reader.read(Path("/calls/a.wav"), FILE_TIME)
    assert (by_name.queue, by_name.expected_duration_s) == ("billing", 67)
    assert (by_name.started_at, by_name.started_at_source) == (
        utc("2026-11-20T07:34:12"),
        TimeSource.MANIFEST,
    )
    by_id = reader.read(Path(f"/archive/2026/Nov/20/{UUID}.mp3"), FILE_TIME)
    assert (by_id.queue, by_id.recorder) == ("sales", "pbx")


@pytest.mark.parametrize(
    "line",
    [
        '"","2025550112","600","in","""K"" <2025550112>","SIP/1","SIP/2","Queue","600",'
        '"2026-11-20 08:34:12","2026-11-20 08:34:20","2026-11-20 08:35:20",68,60,"ANSWERED","3","77.1",""',
        '"""K"" <2025550112>","2025550112","600","in","SIP/1","SIP/2","Queue","600","2026-11-20 08:34:12",'
        '"2026-11-20 08:34:20","2026-11-20 08:35:20","68","60","ANSWERED","3","","77.1",""',
        '"K","2025550112","600","default","2026-11-20 08:34:12","2026-11-20 08:34:20","2026-11-20 08:35:20",'
        '"68","60","ANSWERED","77.1","","","PCMU","PCMU"',
    ],
    ids=["asterisk", "asterisk custom", "freeswitch"],
)
def test_a_cdr_that_begins_with_data_is_read(tmp_path: Path, line: str) -> None:
    (tmp_path / "Master.csv").write_text(f"{line}\n")
    table = RecorderSettings(name="pbx", kind="generic", manifest="Master.csv")
    reader = FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)
    found = reader.read(Path("/calls/77.1.wav"), FILE_TIME)
    assert (found.started_at, found.started_at_source) == (utc("2026-11-20T08:34:12"), TimeSource.MANIFEST)
    assert (found.expected_duration_s, found.answered_s) == (60, 8)
    assert found.disposition == "ANSWERED"
    assert found.caller_hash == hash_number("2025550112", SALT)


@pytest.mark.parametrize("n_after", [3, 4000], ids=["few", "more than a field may hold"])
def test_a_stray_quote_in_a_manifest_costs_one_line(tmp_path: Path, n_after: int) -> None:
    after = [f"20255{n:05d},{n},kim,{n}.1,/rec/call-{n}.wav" for n in range(n_after)]
    lines = ["src,dst,agent,uniqueid,recordingfile", '2025550100,1,"kim,7.1,/rec/bad.wav', *after]
    (tmp_path / "cdr.csv").write_text("\n".join(lines) + "\n")
    table = RecorderSettings(name="pbx", kind="generic", manifest="cdr.csv")
    reader = FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)
    for n in (0, n_after - 1):
        found = reader.read(Path(f"/rec/call-{n}.wav"), FILE_TIME)
        assert (found.agent_id, found.external_id) == ("kim", f"{n}.1")
        assert found.caller_hash == hash_number(f"20255{n:05d}", SALT)
    assert reader.read(Path("/rec/bad.wav"), FILE_TIME).caller_hash is None
    assert list(reader.unread_lines()) == [(tmp_path / "cdr.csv", 1, "line 2")]


def test_quotes_that_still_fit_and_endless_lines_in_a_manifest(tmp_path: Path) -> None:
    lines = ["name,src,file", '"Jo "JJ" Doe",2025550112,a.wav', "x" * 3_000_000, "\0,,", "K,2025550113,b.wav"]
    (tmp_path / "cdr.csv").write_text("\r\n".join(lines))
    table = RecorderSettings(name="pbx", kind="generic", manifest="cdr.csv")
    reader = FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)
    for name, number in (("a.wav", "2025550112"), ("b.wav", "2025550113")):
        assert reader.read(Path(name), FILE_TIME).caller_hash == hash_number(number, SALT)
    assert [n for _, n, _ in reader.unread_lines()] == [1]


def test_of_a_large_manifest_only_the_places_of_its_rows_are_kept(tmp_path: Path) -> None:
    """Before, a file of 86 MB took 680 MB."""
    n_rows = 10_000
    with (tmp_path / "cdr.csv").open("w", encoding="utf-8") as stream:
        stream.write("calldate,src,disposition,uniqueid,recordingfile,cc_queue\n")
        for n in range(n_rows):
            stream.write(
                f"2026-11-20 08:34:12,20255{n:05d},ANSWERED,{n}.1,C:\\rec\\q-600-{n}.wav,queue {n}\n"
            )
    table = RecorderSettings(name="pbx", kind="generic", manifest="cdr.csv")
    tracemalloc.start()
    reader = FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak_bytes < 2 * 8 * n_rows + 2_000_000, "two keys a row, and the rows of a block"
    for n in (0, n_rows // 2, n_rows - 1):
        assert reader.read(Path(f"/calls/q-600-{n}.wav"), FILE_TIME).queue == f"queue {n}"
        assert reader.read(Path(f"/calls/{n}.1.mp3"), FILE_TIME).queue == f"queue {n}"
    assert reader.read(Path("/calls/elsewhere.wav"), FILE_TIME).queue is None


def test_of_rows_with_one_key_the_last_file_and_the_first_id_count(tmp_path: Path) -> None:
    lines = ["\ufefffile,uniqueid,queue", "a.wav,7,one", "a.wav,7,two", "7,8,three", ",9,four", "b.wav", ""]
    (tmp_path / "cdr.csv").write_text("\r".join(lines), encoding="utf-8")  # lines as an old Mac ends them
    table = RecorderSettings(name="pbx", kind="generic", manifest="cdr.csv")
    reader = FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)
    queues = {
        name: reader.read(Path(f"/calls/{name}.wav"), FILE_TIME).queue for name in ("a", "7", "8", "9", "b")
    }
    assert queues == {"a": "two", "7": "three", "8": "three", "9": "four", "b": None}
    os.replace(tmp_path / "cdr.csv", tmp_path / "gone.csv")  # noqa: PTH105
    assert reader.read(Path("/calls/a.wav"), FILE_TIME).queue == "two", "one and the same table for a run"


def test_on_an_outbound_call_the_customer_is_who_was_dialled(tmp_path: Path) -> None:
    (tmp_path / "cdr.csv").write_text("src,dst,uniqueid\n204,2025550112,1795163652.410\n")
    table = RecorderSettings(name="pbx", kind="freepbx", manifest="cdr.csv")
    reader = FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)
    name = "out-2025550112-204-20261120-083412-1795163652.410.wav"
    assert reader.read(Path(name), FILE_TIME).caller_hash == hash_number("2025550112", SALT)


def test_a_sidecar_setting_may_name_only_what_is_known() -> None:
    table = RecorderSettings(name="x", kind="generic", sidecar="{day}/{stem}.json")
    with pytest.raises(ConfigError, match=r"\{name\} and \{stem\}"):
        read("a.wav", table)


def test_the_sidecar_of_a_pair_or_of_a_folder_counts(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text('{"agentId": "7"}')
    reader = FactReader(Settings(), SALT)
    assert reader.read(tmp_path / "x_caller.wav", FILE_TIME, stem="x").agent_id == "7"
    conversation = tmp_path / "conversation_id=abc"
    conversation.mkdir()
    (conversation / "_metadata.json").write_text('{"startTime": "2026-11-20T11:22:33Z"}')
    found = reader.read(conversation / "r1", FILE_TIME)
    assert (found.recorder, found.started_at) == ("genesys", utc("2026-11-20T11:22:33"))


@pytest.mark.parametrize("said", ["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "0", "17"])
def test_a_placeholder_is_no_time(tmp_path: Path, said: str) -> None:
    (tmp_path / "a.wav.json").write_text(json.dumps({"startTime": said}))
    assert read(tmp_path / "a.wav").started_at_source is TimeSource.FILE_TIME


def test_a_hostile_name_is_refused_by_a_long_template_in_no_time() -> None:
    table = RecorderSettings(
        name="x", kind="template", template="CAMPAIGN_INGROUP_AGENT_CALLID_VENDORLEADCODE_FULLDATE"
    )
    begin = time.process_time()
    assert read("a_" * 120 + ".wav", table).recorder == "none"
    assert time.process_time() - begin < 0.5
    assert read("spring_sale_q1_kim_77_x_20261120-094103.wav", table).recorder == "x"


def test_a_manifest_without_recordings_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "cdr.csv").write_text("colour,weight\nred,3\n")
    table = RecorderSettings(name="pbx", kind="generic", manifest="cdr.csv")
    with pytest.raises(ConfigError, match="colour, weight"):
        FactReader(Settings(folder=tmp_path, recorder=(table,)), SALT)


def test_one_number_written_in_several_ways_is_one_caller() -> None:
    hashes = {
        hash_number(n, SALT) for n in ("+1 (202) 555-0143", "0012025550143", "2025550143", "tel:+12025550143")
    }
    assert len(hashes) == 1
    assert hash_number("2025550143", b"another salt....") not in hashes
    assert hash_number("anonymous", SALT) is None


@pytest.mark.parametrize(
    "name",
    [
        "q-600-2025550112-20261120-083412-1795163652.410",
        "out-2025550112-204-20261120-083412-1795163652.410",
        "20261120-094103_1004_2025550112-all",
        "20261120-094103_john_2025550112-all",
        "john_20261120-094103_2025550112_7",
        "GUID_c-2025550112-9_AGENT_kim_CUST_2025550112_DT_2026-11-20T08-00-00",
    ],
)
def test_the_number_in_clear_appears_in_no_fact(name: str) -> None:
    found = read(f"{name}.wav")
    assert "2025550112" not in repr(found)
    assert found.caller_hash == hash_number("2025550112", SALT)


def test_an_id_that_holds_the_number_is_dropped_whichever_source_said_so(tmp_path: Path) -> None:
    said = {"id": "c-2025550127-9", "ani": "tel:+12025550127", "agentId": "202-555-0127", "queue": "q"}
    (tmp_path / "a.wav.json").write_text(json.dumps(said))
    found = read(tmp_path / "a.wav")
    assert (found.external_id, found.agent_id, found.queue) == (None, None, "q")
    assert "dropped" in found.sources["external_id"]


def test_hosts_ports_tags_and_names_are_no_part_of_a_number() -> None:
    ways = (
        "sip:+12025550143@10.20.30.40:5060", "sips:2025550143@pbx7.example.org;transport=tls",
        "tel:+12025550143;ext=9",
        '"Kim 17" <sip:+12025550143@10.20.30.40:5060;user=phone>;tag=99', "2025550143@10.20.30.41",
        "<tel:+1-202-555-0143>", "SIP:%2B12025550143@10.1.1.1?x=1",
    )  # fmt: skip
    assert {hash_number(way, SALT) for way in ways} == {hash_number("2025550143", SALT)}
    assert hash_number("sip:+4930123456@10.20.30.40:5060", SALT) == hash_number("+4930123456", SALT)
    assert hash_number("sip:anonymous@10.20.30.40:5060", SALT) is None


def test_a_sip_address_hides_its_number_wherever_it_stands(tmp_path: Path) -> None:
    audio = tmp_path / "20261120-094103_2025550143.wav"
    said = {"id": "A2-2025550143", "ani": "sip:+12025550143@10.20.30.40:5060"}
    (tmp_path / f"{audio.name}.json").write_text(json.dumps(said))
    found = read(audio)
    assert found.external_id is None
    assert found.caller_hash == hash_number("2025550143", SALT)
    assert "2025550143" not in found.hide(str(audio))


@pytest.mark.parametrize(
    ("name", "agent_id", "direction"),
    [
        ("force-2025550143-101", "101", Direction.OUTBOUND),
        ("force-101-2025550143", "101", Direction.INBOUND),
        ("conf-8000-2025550143", None, Direction.INBOUND),
        ("page-8000-+12025550143", None, Direction.INBOUND),
        ("internal-2025550143-101", "101", Direction.OUTBOUND),
        ("exten-2025550143-101", "101", Direction.OUTBOUND),
        ("exten-101-2025550143", "101", Direction.INBOUND),
        ("newkind-2025550143-101", "101", Direction.OUTBOUND),
        ("in-18005550100-2025550143", None, Direction.INBOUND),
        ("out-2025550143-3025550177", None, Direction.OUTBOUND),
        ("internal-3025550177-2025550143", None, Direction.UNKNOWN),
    ],
)
def test_a_long_number_in_a_freepbx_name_is_a_customers(
    name: str, agent_id: str | None, direction: Direction
) -> None:
    path = f"{name}-20261120-083412-1795163652.410.wav"
    found = read(path)
    assert (found.recorder, found.agent_id, found.direction) == ("freepbx", agent_id, direction)
    assert found.caller_hash == hash_number("2025550143", SALT)
    for number in ("2025550143", "3025550177"):
        assert number not in found.hide(path)


def test_short_numbers_in_a_freepbx_name_are_extensions() -> None:
    found = read("internal-102-101-20261120-083412-1795163652.410.wav")
    assert (found.agent_id, found.direction) == ("101", Direction.INTERNAL)
    assert read("force-102-101-20261120-083412-1795163652.410.wav").direction is Direction.UNKNOWN


@pytest.mark.parametrize(
    "said",
    [
        {"CustomerEndpoint": {"Address": "+12025550143", "Type": "TELEPHONE_NUMBER"},
         "SystemEndpoint": {"Address": "+18005550100", "Type": "TELEPHONE_NUMBER"}},
        {"conversationId": "c", "originatingDirection": "inbound", "participants": [
            {"purpose": "agent", "userId": "u7", "ani": "sip:7@pbx"},
            {"purpose": "ivr", "ani": "tel:+18005550100"},
            {"purpose": "customer", "ani": "tel:+12025550143", "dnis": "tel:+18005550100"}]},
    ],
    ids=["connect", "genesys"],
)  # fmt: skip
def test_numbers_inside_objects_and_lists_are_seen(tmp_path: Path, said: dict[str, object]) -> None:
    audio = tmp_path / "call-2025550143.wav"
    (tmp_path / f"{audio.name}.json").write_text(json.dumps(said))
    found = read(audio)
    assert found.caller_hash == hash_number("2025550143", SALT)
    assert "2025550143" not in found.hide(str(audio))


def test_a_list_says_nothing_of_the_whole_call_but_numbers(tmp_path: Path) -> None:
    words = [{"start": 0.5, "from": 1234567, "to": "2026-11-20T10:00:00", "duration": 2, "callId": "w1"}]
    (tmp_path / "a.wav.json").write_text(
        json.dumps({"timestamp": "2026-11-20T10:00:00Z", "id": "c7", "words": words})
    )
    found = read(tmp_path / "a.wav")
    assert (found.started_at, found.external_id) == (utc("2026-11-20T10:00:00"), "c7")
    assert (found.caller_hash, found.expected_duration_s) == (None, None)


def test_an_extension_is_no_phone_number(tmp_path: Path) -> None:
    (tmp_path / "a.wav.json").write_text('{"agentId": "204", "ani": "204", "dnis": "18005550100"}')
    assert read(tmp_path / "a.wav").agent_id == "204"


@pytest.mark.parametrize(
    ("said", "expected_s"),
    [
        ({"duration": 85, "answer": "2026-11-20T10:00:25Z"}, 60),
        ({"duration": 85, "billsec": 58, "answer": "2026-11-20T10:00:25Z"}, 58),
        ({"recordingDuration": 85, "answer": "2026-11-20T10:00:25Z"}, 85),
        ({"duration": 85}, 85),
        ({"duration": "00:01:25", "answer": "2026-11-20T10:09:00Z"}, 0),
    ],
)
def test_ringing_need_not_be_on_the_recording(
    tmp_path: Path, said: dict[str, object], expected_s: int
) -> None:
    """Only less sound than expected is `truncated`: whoever records the ringing too has more."""
    (tmp_path / "a.wav.json").write_text(json.dumps({"start": "2026-11-20T10:00:00Z", **said}))
    assert read(tmp_path / "a.wav").expected_duration_s == expected_s


def test_the_salt_is_made_once_and_private(tmp_path: Path) -> None:
    salt = load_or_make_salt(tmp_path / "salt")
    assert load_or_make_salt(tmp_path / "salt") == salt
    assert (tmp_path / "salt").stat().st_mode & 0o777 == 0o600
    (tmp_path / "salt").write_text("zz")
    with pytest.raises(StoreError, match="salt"):
        load_or_make_salt(tmp_path / "salt")


names = st.text(
    st.characters(blacklist_characters="/\0", blacklist_categories=["Cs"]), min_size=1, max_size=80
)
digits = st.from_regex(r"(q|in|out)-\d{1,12}-\d{1,12}-\d{8}-\d{6}-\d{9,10}\.\d{1,4}", fullmatch=True)


@given(
    names | digits | st.from_regex(r"_?(GUID|DT|AGENT)_[^/\0]{0,20}_(CUST|DT)_[0-9T:-]{0,20}", fullmatch=True)
)
def test_any_name_gives_facts(name: str) -> None:
    found = read(f"/nowhere/{name}.wav")
    assert found.started_at.tzinfo is not None
    assert 0 <= found.recorder_confidence <= 1


@given(
    st.lists(
        st.sampled_from(
            ["2025550143", "202-555-0143", "(202) 555.0143", "+1 202 555 0143", "0143", "2025550"]
        )
        | st.text(st.sampled_from("0123456789+-. ()_a\u0663"), max_size=6),
        max_size=8,
    ).map("".join)
)
def test_a_number_is_hidden_wherever_it_is_written(text: str) -> None:
    number = r"[-.\s()]{0,2}".join("2025550143")
    written = rf"(?:\+\d{{1,3}}[-.\s()]{{0,2}}|\+?(?<!\d)\d{{0,5}}){number}(?!\d)"
    assert hide_numbers(text, {"2025550143": "caller~0"}) == re.sub(written, "caller~0", text)


scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=30)


@given(
    st.dictionaries(
        st.sampled_from(["started_at", "duration_s", "direction", "agent_id", "agent_channel"]), scalar
    )
)
def test_any_values_give_typed_facts(stated: dict[str, object]) -> None:
    facts = Found("x", 1.0, facts_of(stated, ZoneInfo("UTC"))).facts
    assert isinstance(facts.get("started_at", FILE_TIME), datetime)
    assert isinstance(facts.get("expected_duration_s", 0.0), float)

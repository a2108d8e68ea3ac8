"""What sources state, value by value, and what the parts of a name state: at, below and above each limit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from zoneinfo import ZoneInfo

import pytest

from callanalytics.config import RecorderSettings, Settings, TimeSettings
from callanalytics.errors import ConfigError
from callanalytics.ingest.recorders.facts import FactReader
from callanalytics.ingest.recorders.fields import fact_named, facts_of, read_direction, read_time
from callanalytics.ingest.recorders.profiles import BUILT_IN, TEMPLATE_FIELDS, templated
from callanalytics.ingest.recorders.stamps import Stamp, iso_stamp, reconciled, stamps_in
from callanalytics.records import CallFacts, Direction, Role

BERLIN = ZoneInfo("Europe/Berlin")
FILE_TIME = datetime(2026, 11, 28, 18, 0, tzinfo=UTC)
UUID = "27b8de27-e69c-532b-8889-9f8f4061e80e"


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def read(name: str, *recorders: RecorderSettings, zone: str = "Europe/Berlin") -> CallFacts:
    settings = Settings(recorder=recorders, time=TimeSettings(zone=zone))
    return FactReader(settings, b"0123456789abcdef").read(Path(name), FILE_TIME)


# Columns and keys -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "fact"),
    [
        ("Call-ID", ("external_id", 0)),
        ("uniqueid", ("external_id", 2)),
        ("calldate", ("started_at", 4)),
        ("answer", ("answered_at", 2)),
        ("billsec", ("duration_s", 0)),
        ("Duration", ("rung_duration_s", 0)),
        ("duration ms", ("duration_ms", 0)),
        ("cc_queue", ("queue", 2)),
        ("src", ("from_number", 6)),
        ("dst", ("to_number", 2)),
        ("colour", None),
        ("", None),
    ],
)
def test_a_key_states_a_fact_whatever_its_case_and_punctuation(
    key: str, fact: tuple[str, int] | None
) -> None:
    assert fact_named(key) == fact


def test_a_column_that_the_settings_name_goes_before_all_others() -> None:
    extra = {"queue": "Skill Group", "agent_id": "src"}
    assert fact_named("skill_group", extra) == ("queue", -1)
    assert fact_named("SRC", extra) == ("agent_id", -1)
    assert fact_named("dst", extra) == ("to_number", 2)


@pytest.mark.parametrize(
    ("stated", "at"),
    [
        ({"started_at": "20261120083412"}, "07:34:12"),
        ({"started_at": "20261120-083412"}, "07:34:12"),
        ({"started_at": "20.11.2026 08:34:12"}, "07:34:12"),
        ({"started_at": "11/20/2026 8:34:12 PM"}, "19:34:12"),
        ({"started_at": "Nov 20, 2026 08:34:12 PM"}, "19:34:12"),
        ({"started_at": "Fri, 20 Nov 2026 08:34:12 +0000"}, "08:34:12"),
        ({"start_day": "2026-11-20", "start_clock": "8:34:12"}, "07:34:12"),
        ({"start_day": "20.11.2026", "started_at": "08:34:12"}, "07:34:12"),
        ({"start_day": "2026-11-20T08:34:12Z"}, "08:34:12"),
    ],
)
def test_a_start_is_read_as_exports_write_it(stated: dict[str, object], at: str) -> None:
    assert facts_of(stated, BERLIN) == {"started_at": utc(f"2026-11-20T{at}")}


@pytest.mark.parametrize(
    ("stated", "facts"),
    [
        ({"started_at": "2026-11-20"}, {"started_at": utc("2026-11-19T23:00:00"), "conflict": "day"}),
        ({"started_at": "03/04/2026 08:34:12"}, {"conflict": "not read"}),
        ({"started_at": "/Date(1795946400000)/"}, {"conflict": "not read"}),
        ({"started_at": "1795946400000000"}, {"conflict": "not read"}),
        ({"started_at": "0000-00-00 00:00:00"}, {}),
        ({"started_at": "0001-01-01T00:00:00"}, {}),
        ({"started_at": "unknown"}, {}),
        ({"start_clock": "08:34:12"}, {}),
    ],
)
def test_a_start_that_is_not_read_is_said_and_a_placeholder_is_not(
    stated: dict[str, object], facts: dict[str, object]
) -> None:
    found = facts_of(stated, BERLIN)
    assert facts.get("conflict", "") in str(found.get("conflict", ""))
    assert found.keys() == facts.keys()
    assert found.get("started_at") == facts.get("started_at")


def test_a_stated_start_and_answer() -> None:
    def answered(at: str) -> dict[str, object]:
        return facts_of({"started_at": "2026-11-20 08:34:12", "answered_at": f"2026-11-20 {at}"}, BERLIN)

    began = {"started_at": utc("2026-11-20T07:34:12")}
    assert answered("08:34:20") == {**began, "answered_s": 8.0}
    assert answered("08:34:12") == {**began, "answered_s": 0.0}
    assert answered("08:34:11") == began, "an answer before the start is none"
    assert facts_of({"answered_at": "2026-11-20 08:34:20"}, BERLIN) == {}


@pytest.mark.parametrize(
    ("stated", "seconds"),
    [
        ({"duration_s": 61}, 61),
        ({"duration_s": "61.5"}, 61.5),
        ({"duration_s": "1:02:03.5"}, 3723.5),
        ({"duration_s": " 12:30 "}, 750),
        ({"duration_s": 0}, 0),
        ({"duration_s": 0.25}, 0.25),
        ({"duration_s": -1}, None),
        ({"duration_s": 999_999}, 999_999),
        ({"duration_s": 1_000_000}, None),
        ({"duration_s": "1:2"}, None),
        ({"duration_s": "1:02:03:04"}, None),
        ({"duration_s": True}, None),
        ({"duration_s": [61]}, None),
        ({"duration_s": "long"}, None),
        ({"duration_ms": 61_500}, 61.5),
        ({"duration_ms": 10**15 - 1}, (10**15 - 1) / 1000),
        ({"duration_ms": 10**15}, None),
        ({"duration_ms": 5_000, "duration_s": 7}, 7),
        ({"duration_ms": 5_000, "rung_duration_s": 8}, 8),
        ({"rung_duration_s": 68}, 68),
        ({"rung_duration_s": 68, "duration_s": 60}, 60),
    ],
)
def test_a_stated_length(stated: dict[str, object], seconds: float | None) -> None:
    assert facts_of(stated, BERLIN) == ({} if seconds is None else {"expected_duration_s": seconds})


@pytest.mark.parametrize(("rung_s", "expected_s"), [(68, 60.0), (8, 0.0), (5, 0.0)])
def test_a_length_with_the_ringing_is_counted_from_the_answer(rung_s: int, expected_s: float) -> None:
    times = {"started_at": "2026-11-20 08:34:12", "answered_at": "2026-11-20 08:34:20"}
    assert facts_of({**times, "rung_duration_s": rung_s}, BERLIN)["expected_duration_s"] == expected_s


def test_held_seconds_texts_and_sides() -> None:
    stated = {
        **{
            "hold_s": "0:45",
            "agent_id": 7,
            "agent_name": " Kim ",
            "team": True,
            "queue": "",
            "campaign": None,
        },
        **{"disposition": "x" * 300, "caller_number": "2025550112", "agent_channel": "Right"},
    }
    assert facts_of(stated, BERLIN) == {
        **{"hold_s": 45.0, "agent_id": "7", "agent_name": "Kim", "disposition": "x" * 200},
        **{"caller_number": "2025550112", "channel_roles": (Role.CALLER, Role.AGENT)},
    }
    left = (Role.AGENT, Role.CALLER)
    assert [facts_of({"agent_channel": side}, BERLIN) for side in ("left", 0, "0", "middle", 2)] == [
        *[{"channel_roles": left}] * 3,
        *[{}] * 2,
    ]
    assert facts_of({"agent_channel": 1}, BERLIN) == {"channel_roles": left[::-1]}


@pytest.mark.parametrize(
    ("value", "at"),
    [
        ("2026-11-20 08:34:12", "2026-11-20T07:34:12"),
        (" 2026-11-20T08:34:12Z ", "2026-11-20T08:34:12"),
        ("Thu, 27 Mar 2025 08:25:17 +0100", "2025-03-27T07:25:17"),
        (1795160052, "2026-11-20T07:34:12"),
        ("1795160052", "2026-11-20T07:34:12"),
        (1795160052000, "2026-11-20T07:34:12"),
        ("1980-01-01 12:00", "1980-01-01T11:00"),
        ("2199-12-31 12:00", "2199-12-31T11:00"),
        ("1979-12-31 12:00", None),
        ("2200-01-02 12:00", None),
        ("0001-01-01", None),
        ("soon", None),
        (None, None),
        (True, None),
        (1e14, None),
    ],
)
def test_a_stated_time(value: object, at: str | None) -> None:
    found = read_time(value, BERLIN)
    assert found == (utc(at) if at else None)
    assert found is None or found.tzinfo is UTC


@pytest.mark.parametrize(
    ("words", "direction"),
    [
        *((word, Direction.INBOUND) for word in ("IN", " Inbound", "incoming", "queue callback", "API")),
        *((word, Direction.INBOUND) for word in ("transferred", "terminating", "internally routed")),
        *((word, Direction.OUTBOUND) for word in ("out", "OUTBOUND", "outgoing", "originator")),
        *((word, Direction.INTERNAL) for word in ("internal", "Local ")),
        *((word, None) for word in ("", None, 7, "both", "locally")),
    ],
)
def test_words_for_the_way_a_call_went(words: object, direction: Direction | None) -> None:
    assert read_direction(words) is direction


# Stamps ---------------------------------------------------------------------------------------------------


def test_digits_of_a_stamp_as_iso_text() -> None:
    assert iso_stamp("20250327T09:25") == "2025-03-27T09:25"
    assert iso_stamp("20250327-092531") == "2025-03-27T09:25:31"
    assert iso_stamp("20250327092531999") == "2025-03-27T09:25:31"


@pytest.mark.parametrize(
    ("name", "at", "rest"),
    [
        ("a_20250327-092531_b", "2025-03-27T08:25:31", "a_|_b"),
        ("20250327 09.25.31.250", "2025-03-27T08:25:31.250", "|"),
        ("2025-03-27T09:25:31.123456Z x", "2025-03-27T09:25:31.123456", "| x"),
        ("20250327092531123", "2025-03-27T08:25:31.123", "|"),
        ("27.03.2025 09-25", "2025-03-27T08:25", "|"),
        ("03-27-2025_09-25-31", "2025-03-27T08:25:31", "|"),
        ("27-03-2025_09-25-31", "2025-03-27T08:25:31", "|"),
        ("12-12-2025_09-25-31", "2025-12-12T08:25:31", "|"),
        ("13-12-2025_09-25-31", "2025-12-13T08:25:31", "|"),
        ("12-13-2025_09-25-31", "2025-12-13T08:25:31", "|"),
        ("11.12.2025_09-25-31", "2025-12-11T08:25:31", "|"),
        ("27Mar2025_09-25-31", "2025-03-27T08:25:31", "|"),
        ("March 7, 2025 09-25-31", "2025-03-07T08:25:31", "|"),
        ("2025-mar-27_09-25-31", "2025-03-27T08:25:31", "|"),
        ("2025-03-27 12-25-31 AM", "2025-03-26T23:25:31", "|"),
        ("2025-03-27 12-25-31 PM", "2025-03-27T11:25:31", "|"),
        ("2025-03-27 1-25-31 p.m.", "2025-03-27T12:25:31", "|"),
        ("2025-03-27 13-25-31 PM", "2025-03-27T12:25:31", "|"),
        ("2025-03-27 09-25-31 EST", "2025-03-27T14:25:31", "|"),
        ("2025-03-27 09-25-31 UTC+2", "2025-03-27T07:25:31", "|"),
        ("2025-03-27 09-25-31 UTC-0330", "2025-03-27T12:55:31", "|"),
        ("2025-03-27 09-25-31 UTC", "2025-03-27T09:25:31", "|"),
        ("GMT20250327-092531", "2025-03-27T09:25:31", "|"),
        ("2025-03-27T09-25-31+0545", "2025-03-27T03:40:31", "|"),
        ("2025-03-27T09-25-31-07:00", "2025-03-27T16:25:31", "|"),
        ("2025-03-27T09-25-31+1400", "2025-03-26T19:25:31", "|"),
        ("2025-03-27T09-25-31+1415", "2025-03-27T08:25:31", "|"),
        ("2025-03-27T09-25-31-1200", "2025-03-27T21:25:31", "|"),
        ("2025-03-27T09-25-31+0507", "2025-03-27T08:25:31", "|"),
    ],
)
def test_a_stamp_of_a_name(name: str, at: str, rest: str) -> None:
    found, left, doubt = stamps_in(name, BERLIN)
    assert (found, left, doubt) == ([Stamp(utc(at))], rest, None)


@pytest.mark.parametrize("name", ["2025-02-30_09-25-31", "2025-13-01_09-25-31", UUID, "0123456789abcdef0123"])
def test_no_day_of_the_calendar_and_no_id_is_a_stamp(name: str) -> None:
    assert stamps_in(name, BERLIN)[0] == []


@pytest.mark.parametrize("name", ["12-11-2025_09-25-31", "03-04-2025 09-25-29", "1_12_2025 09-25"])
def test_a_day_that_may_be_the_month_is_none_and_said(name: str) -> None:
    day = name[: name.index("2025") + 4]
    assert stamps_in(name, BERLIN) == (
        [],
        name,
        f"{day} may begin with the day or the month: no date was read",
    )


def test_a_second_stamp_before_the_first_is_a_doubt_and_the_same_again_is_none() -> None:
    first, same, before = "2025-03-27_09-25-31", "2025-03-27_09-25-31", "2025-03-26_09-25-31"
    assert stamps_in(f"{first}_{same}", BERLIN)[1:] == ("|_|", None)
    assert stamps_in(f"{first}_{before}", BERLIN)[2] == (
        "the second stamp is before the first, which was taken for the start"
    )


def test_who_stands_between_the_day_and_the_time() -> None:
    (stamp,), _, doubt = stamps_in("20250327_204_092531", BERLIN)
    assert (stamp, doubt) == (Stamp(utc("2025-03-27T08:25:31"), "204"), None)
    (stamp,), _, doubt = stamps_in("20250327_1001_092531", BERLIN)
    assert (stamp.who, doubt) == (
        "1001",
        "the number behind the day may be the time, and what follows it a counter",
    )
    (stamp,), _, doubt = stamps_in("20250327_1099_092531", BERLIN)
    assert (stamp.who, doubt) == ("1099", None), "no clock shows 10:99"


# Stamps beside epochs -------------------------------------------------------------------------------------

EPOCH = 1795160052  # 2026-11-20 07:34:12 UTC
OPENED = utc("2026-11-20T07:34:12")


def local(**later: float) -> str:
    """What a clock in Berlin shows so long after the epoch."""
    return (OPENED + timedelta(hours=1, **later)).strftime("%Y-%m-%dT%H:%M:%S")


@pytest.mark.parametrize("minutes", [-30, -3, 0, 11, 30])
def test_within_half_an_hour_the_stamp_is_the_start(minutes: int) -> None:
    assert reconciled(local(minutes=minutes), EPOCH, BERLIN) == {
        "started_at": OPENED + timedelta(minutes=minutes)
    }


@pytest.mark.parametrize("minutes", [33, 75, 235])
def test_a_part_that_begins_later_is_dated_by_its_stamp_with_a_note(minutes: int) -> None:
    assert reconciled(local(minutes=minutes), EPOCH, BERLIN) == {
        "started_at": OPENED + timedelta(minutes=minutes),
        "zone_note": f"recorded {timedelta(minutes=minutes)} after the call began, "
        "if Europe/Berlin is its zone",
    }


@pytest.mark.parametrize(
    ("minutes", "after"),
    [
        (31, 1),
        (60, 0),
        (59, -1),
        (62, 2),
        (89, -1),
        (240, 0),
        (243, 3),
        (-60, 0),
        (-57, 3),
        (-61, -1),
        (-31, -1),
    ],
)
def test_a_stamp_of_another_zone_is_the_epoch_and_what_is_left_of_half_an_hour(
    minutes: int, after: int
) -> None:
    stamp = local(minutes=minutes)
    assert reconciled(stamp, EPOCH, BERLIN) == {
        "started_at": OPENED + timedelta(minutes=after),
        "zone_note": f"stamp {stamp} does not fit zone Europe/Berlin; the unique id was used",
    }


@pytest.mark.parametrize(
    ("shift", "is_used"),
    [({"hours": -12.5}, True), ({"hours": -12.6}, False), ({"hours": 14.5}, True), ({"hours": 14.6}, False)],
)
def test_an_epoch_further_off_than_any_zone_is_not_believed(shift: dict[str, float], is_used: bool) -> None:
    stamp = (OPENED + timedelta(**shift)).strftime("%Y-%m-%dT%H:%M:%S")
    found = reconciled(stamp, EPOCH, BERLIN)
    assert ("conflict" in found) is not is_used
    if not is_used:
        assert found == {
            "started_at": utc(stamp) - timedelta(hours=1),
            "conflict": f"the epoch {EPOCH} is further from the stamp {stamp} than any zone; "
            "the stamp was used",
        }


def test_without_a_stamp_the_epoch_is_all_there_is() -> None:
    assert reconciled(None, EPOCH, BERLIN) == {"started_at": OPENED}
    assert reconciled("2026-11-20T29:00", EPOCH, BERLIN) == {
        "started_at": OPENED,
        "zone_note": "stamp 2026-11-20T29:00 is no time; the unique id was used",
    }


# Names ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "kind", "confidence", "external_id", "source"),
    [
        ("q-600-2025550112-20261120-083412-1795160052.410.wav", "freepbx", 0.95, "1795160052.410", "freepbx"),
        ("20261120-094103_2025550127_1004-all.mp3", "vicidial", 0.9, None, "vicidial"),
        ("20261120-094103_2025550127_1004.mp3", "vicidial", 0.7, None, "vicidial"),
        (f"{UUID}_20261120T10:48_UTC.wav", "connect", 0.99, UUID, "connect"),
        ("year=2026/month=11/day=20/hour=11/conversation_id=abc/def.opus", "genesys", 0.9, "abc", "genesys"),
        (f"archive/2026/Nov/20/{UUID}.mp3", "fusionpbx", 0.6, UUID, None),
        (
            "x_RE557ce644e5ab84fa21cc21112e22c485.wav",
            "twilio",
            0.8,
            "RE557ce644e5ab84fa21cc21112e22c485",
            None,
        ),
        (
            "GMT20221115-181507_abcdefghij0123456789_VoiceRecording.mp4",
            *("zoom", 0.9, "abcdefghij0123456789", "zoom"),
        ),
        ("GUID_000_AGENT_kim_DT_2025-02-19T06-01-22.wav", "generic", 0.9, "000", "generic"),
        ("GUID_000_AGENT_kim_2025-02-19T06-01-22.wav", "generic", 0.6, "000", "stamp"),
        ("call of 2026-11-20 08.15.30.wav", "stamp", 0.5, None, "stamp"),
    ],
)
def test_how_sure_a_kind_is_and_what_it_dates(
    path: str, kind: str, confidence: float, external_id: str | None, source: str | None
) -> None:
    found = read(path)
    assert (found.recorder, found.recorder_confidence, found.external_id) == (kind, confidence, external_id)
    assert found.sources.get("started_at") == (f"name ({source})" if source else None)


def test_two_numbers_of_a_name_are_who_dialled_and_who_was_dialled() -> None:
    profile = BUILT_IN[-1]
    name = "2026-11-20_08-15-30_outgoing_2025550112_2025550113"
    found = profile.read(PurePath(name), name, BERLIN)
    assert found is not None
    assert found.facts == {
        **{"started_at": utc("2026-11-20T07:15:30"), "direction": Direction.OUTBOUND},
        **{"from_number": "2025550112", "to_number": "2025550113"},
    }


def facts_by(template: str, stem: str) -> dict[str, object] | None:
    found = templated("mine", template, where="here").read(PurePath(stem), stem, BERLIN)
    assert found is None or (found.recorder, found.confidence) == ("mine", 0.9)
    return None if found is None else found.facts


STARTED = {"started_at": utc("2026-11-20T07:34:12")}


@pytest.mark.parametrize(
    ("template", "stem", "facts"),
    [
        ("{FULLDATE}_{AGENT}", "20261120-083412_kim", {**STARTED, "agent_id": "kim"}),
        ("FULLDATE_CAMPAIGN", "20261120083412_spring", {**STARTED, "campaign": "spring"}),
        ("{DATE}-{TIME}", "2026-11-20-08-34-12", STARTED),
        ("{TIME}.{DATE}.{QUEUE}", "08_34_12.20261120.billing", {**STARTED, "queue": "billing"}),
        ("{DATE}_{INGROUP}", "20261120_billing", {"queue": "billing"}),  # no time, no start
        ("{FULLDATE}_{EPOCH}", "20261120-083412_1795160052.5", STARTED),
        ("{EPOCH}", "1795160052", STARTED),
        ("{AGENT}_{FULLDATE}_{AGENT}", "kim_20261120-083412_jo", {**STARTED, "agent_id": "kim"}),
        ("{ANY}_{FULLDATE}_{ANY}", "a_b_20261120-083412_c", STARTED),
        ("{FULLDATE}_{CALLID}_{DIRECTION}", "20261120-083412_7.1_out", {
            **STARTED, "external_id": "7.1", "direction": Direction.OUTBOUND}),
        ("{FULLDATE}({AGENTNAME})+{CUSTPHONE}", "20261120-083412(Jo Doe)+2025550112", {
            **STARTED, "agent_name": "Jo Doe", "caller_number": "2025550112"}),
        ("{FULLDATE}_{AGENT}", "20261120-083412_kim-out", {**STARTED, "agent_id": "kim"}),
        ("{FULLDATE}_{LEADID}", "20261120-083412_kim", None),
        ("{AGENT}_{QUEUE}_{FULLDATE}", "k_m_billing_20261120-083412", {
            **STARTED, "agent_id": "k_m", "queue": "billing"}),
    ],
)  # fmt: skip
def test_a_template_states_what_its_fields_hold(
    template: str, stem: str, facts: dict[str, object] | None
) -> None:
    assert facts_by(template, stem) == facts


def test_a_template_with_unknown_fields_is_refused_with_those_that_there_are() -> None:
    known = f"Known fields: {', '.join(TEMPLATE_FIELDS)}."
    for template, words in (("{NONSENSE}_{DATE}_{ODD}", "NONSENSE, ODD"), ("plain", "no field")):
        with pytest.raises(ConfigError) as caught:
            templated("template", template, where="[[recorder]] x")
        assert str(caught.value) == f"[[recorder]] x: template = {template!r} names {words}. {known}"

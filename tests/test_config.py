"""Settings: defaults hold, and every mistake is named with file, table, key, value and what is allowed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from callanalytics.config import (
    RULE_MEASURES,
    RecorderSettings,
    RuleSettings,
    Settings,
    load_config,
    settings_from,
    write_threshold,
)
from callanalytics.config.call_settings import TimeSettings
from callanalytics.errors import ConfigError
from callanalytics.workspace import Workspace


def write(folder: Path, text: str) -> Path:
    path = folder / "config.toml"
    folder.mkdir(exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def test_shipped_config_states_the_defaults() -> None:
    shipped = load_config(Path(__file__).parents[1] / "config.toml")
    default = Settings(folder=shipped.folder, source=shipped.source, paths=shipped.paths)
    found = TimeSettings(zone=default.time.zone_info.key)  # which is not the file's to say
    assert shipped == default.model_copy(update={"time": found})


def shown_keys(text: str) -> dict[str, set[str]]:
    """Keys by table of a config file, also those that are commented out, of all entries of an array."""
    document = tomllib.loads(re.sub(r"^# (\[\[?\w+\]\]?|\w+ = )", r"\1", text, flags=re.MULTILINE))
    return {
        name: set().union(*table) if isinstance(table, list) else set(table)
        for name, table in document.items()
    }


def test_the_shipped_config_shows_every_key_and_no_other() -> None:
    tables = {"recorder": RecorderSettings, "rule": RuleSettings}
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            tables[name] = type(field.default)
    known = {name: set(model.model_fields) for name, model in tables.items()}
    assert {*known, "folder", "source"} == set(Settings.model_fields)
    assert shown_keys((Path(__file__).parents[1] / "config.toml").read_text(encoding="utf-8")) == known


def test_relative_paths_start_at_the_config_file(tmp_path: Path) -> None:
    settings = load_config(write(tmp_path, '[paths]\ninputs = ["calls"]\nout = "results"\n'))
    assert settings.input_dirs == (tmp_path / "calls",)
    assert settings.out_dir == tmp_path / "results"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[audio]\nmax_byte = 3\n", ["[audio]", "'max_byte'", "Known keys", "max_bytes"]),
        ("[audio]\nmax_bytes = 'x'\n", ["[audio]", "max_bytes = 'x'", "integer"]),
        ("[time]\nzone = 'Mars/Base'\n", ["[time]", "zone", "Mars/Base", "IANA"]),
        ("[segments]\nmin_s = 5.0\n", ["segments", "min_s < target_s <= max_s"]),
        ("nope = 1\n", ["top level", "'nope'", "Known keys"]),
        ("[[recorder]]\nname='x'\nkind='y'\n", ["[recorder.0]", "kind = 'y'", "'freepbx'"]),
        ("[[rule]]\nname='x'\nmeasure='madness'\nat_least=1\nreason=''\n", ["madness", "no such measure"]),
        ("[[rule]]\nname='x'\nmeasure='talk_s'\nat_least=1\nreason='{oops}'\n", ["{oops}", "{value}"]),
        ("[schedule]\npurge_older_than='12m'\n", ["[schedule]", "purge_older_than = '12m'", "365d or 52w"]),
        ("[schedule]\npurge_older_than='one year'\n", ["purge_older_than = 'one year'", "365d or 52w"]),
        ("[schedule]\npurge_older_than='2999-01-01'\n", ["purge_older_than", "not over"]),
        ("[schedule]\nreport_since='12m'\n", ["report_since = '12m'", "m is minutes", "30d or 4w"]),
        ("[schedule]\nreport_since='banana'\n", ["report_since = 'banana'", "says no time", "7d"]),
        ("[audio\n", ["not valid TOML"]),
        ("folder = 'x'\n", ["unknown key 'folder'"]),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, expected: list[str]) -> None:
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    message = str(caught.value)
    assert str(path) in message
    for words in expected:
        assert words in message


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(write(tmp_path, "[audio]\nmax_byte = 3\n[time]\nzone = 'Nowhere'\n"))
    assert len(str(caught.value).splitlines()) == 2


def test_missing_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no such config file"):
        load_config(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("clock", "zone"), [("Asia/Tokyo", "Asia/Tokyo"), ("Etc/UTC", "UTC"), ("No/Where", "UTC")]
)
def test_without_a_setting_the_zone_is_the_machines(tmp_path: Path, clock: str, zone: str) -> None:
    program = "from callanalytics.config import load_config as l; print(l().time.zone)"
    environment = {**os.environ, "TZ": clock}
    done = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == zone


def test_results_keep_their_zone_and_a_setting_wins(tmp_path: Path) -> None:
    plain, told = write(tmp_path, ""), write(tmp_path / "told", "[time]\nzone = 'America/Lima'\n")
    noted = Workspace(tmp_path / "noted")
    noted.make()
    noted.work_database.touch()
    assert load_config(plain, noted.folder).time.zone == "UTC", "of versions that noted none"
    noted.note_zone(ZoneInfo("Europe/Berlin"))
    assert load_config(plain, noted.folder).time.zone == "Europe/Berlin"
    assert load_config(told, noted.folder).time.zone == "America/Lima"
    (noted.work_dir / "zone").write_text("../etc")
    assert load_config(plain, noted.folder).time.zone == "UTC"


def test_settings_are_frozen() -> None:
    with pytest.raises(Exception, match="frozen"):
        Settings().time.zone = "UTC"


def test_shipped_rules_name_known_measures_and_fit_their_words() -> None:
    assert Settings().rule
    for rule in Settings().rule:
        assert rule.measure in RULE_MEASURES
        assert rule.words(12.3, 75.0)


toml_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([*Settings.model_fields, "x"]), toml_value, max_size=4))
def test_any_document_gives_settings_or_a_config_error(table: dict[str, object]) -> None:
    table.pop("folder", None)
    table.pop("source", None)
    with suppress(ConfigError):
        assert isinstance(settings_from(table, source="any", folder=Path()), Settings)


# A threshold written by the review app --------------------------------------------------------------------

RULES = """\ufeff# our rules
[[rule]]
name = "frustrated"   # as the pages call it
measure = "frustration_peak"
at_least = 0.38  # from here
reason = "name = 'louder', at_least = 1"

[[rule]]
name = 'louder'
at_least=8
measure = "loudness_rise_db"
reason = "louder"

[report]
title = "x"
"""


@pytest.mark.parametrize(
    ("rule", "line", "instead"),
    [
        ("frustrated", "at_least = 0.38  # from here", "at_least = 0.45  # from here"),
        ("louder", "at_least=8", "at_least=0.45"),
    ],
)
def test_a_threshold_is_written_and_nothing_else(tmp_path: Path, rule: str, line: str, instead: str) -> None:
    file = tmp_path / "config.toml"
    file.write_bytes(RULES.replace("\n", "\r\n").encode())
    file.chmod(0o640)
    made = write_threshold(load_config(file), rule, 0.45)
    assert file.read_bytes().decode() == RULES.replace(line, instead, 1).replace("\n", "\r\n")
    assert file.stat().st_mode & 0o777 == 0o640
    assert {r.name: r.at_least for r in made.rule}[rule] == 0.45
    assert load_config(file).rule == made.rule


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        (RULES, "higher"),
        ('rule = [{name = "frustrated", measure = "angry_s", at_least = 1.0, reason = "x"}]', "frustrated"),
        (RULES + RULES[RULES.index("[[rule]]") : RULES.index("[report]")], "frustrated"),
        ('[report]\ntitle = """\n[[rule]]\nname = "frustrated"\nat_least = 1\n"""', "frustrated"),
    ],
)
def test_a_text_that_is_not_plain_is_left(tmp_path: Path, text: str, rule: str) -> None:
    file = tmp_path / "config.toml"
    file.write_text(text)
    with pytest.raises(ConfigError, match="by hand"):
        write_threshold(load_config(file), rule, 0.45)
    assert file.read_text() == text
    with pytest.raises(ConfigError, match="no config file"):
        write_threshold(Settings(), rule, 0.45)

"""ensemble list, promote and rollback say what is in use, what the next run hides, and what fixes it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from callanalytics.errors import UsageError
from callanalytics.workspace import Workspace
from ensemble.inference.ensemble import SHIPPED
from jobs.active_ensemble import registry
from jobs.cli.main import cli


def another(folder: Path, factor: float = 2.0) -> Path:
    """The shipped members with another temperature: another ensemble."""
    shutil.copytree(SHIPPED, folder)
    card = json.loads((folder / "card.json").read_text())
    card["temperature"] *= factor
    (folder / "card.json").write_text(json.dumps(card))
    return folder


def typed(*words: object) -> Result:
    return CliRunner().invoke(cli, ["ensemble", *map(str, words)])


def said(*words: object) -> str:
    done = typed(*words)
    assert done.exit_code == 0, done.output
    return " ".join(done.stderr.split())


def listed(*words: object) -> list[dict[str, Any]]:
    done = typed("list", "--json", *words)
    assert done.exit_code == 0, done.output
    rows: list[dict[str, Any]] = json.loads(done.stdout)
    return rows


def test_promoting_and_rolling_back_say_what_the_next_run_hides(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = said("promote", another(tmp_path / "other"), "--force", "--out", out)
    (name,) = registry(Workspace(out)).ids()
    assert words.startswith(f"{name} is in use from the next run on.")
    assert "That run hides calls that it has not analysed yet." in words
    assert f"first: callanalytics backfill --ensemble {name} --shadow --out " in words
    assert "callanalytics ensemble rollback --out " in words
    assert "keep their labels" not in words

    words = said("rollback", "--out", out)
    assert words.startswith("shipped is in use from the next run on.")
    assert "That run shows again what it has analysed and hides other calls, until: callanalytics" in words
    said("promote", name, "--force", "--out", out)
    said("promote", "shipped", "--force", "--out", out)
    assert said("rollback", "--out", out).startswith(f"{name} is in use")


def test_a_fixed_ensemble_is_shown_as_the_one_in_use_and_refuses_promotions(tmp_path: Path) -> None:
    out, config = tmp_path / "out", tmp_path / "config.toml"
    name = registry(Workspace(out)).add(another(tmp_path / "mine"))
    config.write_text('[emotion]\nensemble = "mine"\n')
    options = ("--out", out, "--config", config)
    assert [(row["ensemble"], row["in_use"]) for row in listed(*options)] == [
        ("shipped", False),
        (name, False),
        (str(tmp_path / "mine"), True),
    ]
    registry(Workspace(out)).promote(name, force=True)
    before = registry(Workspace(out)).history()
    for words in (("promote", name, "--force"), ("promote", tmp_path / "mine"), ("rollback",)):
        refused = typed(*words, *options)
        assert isinstance(refused.exception, UsageError), refused.output
        assert "[emotion] ensemble = 'mine' fixes the ensemble" in str(refused.exception)
    assert registry(Workspace(out)).history() == before

    config.write_text(f'[emotion]\nensemble = "out/ensembles/{name}"\n')
    assert [(row["ensemble"], row["in_use"]) for row in listed(*options)] == [
        ("shipped", False),
        (name, True),
    ]


def test_without_a_fixed_one_the_promoted_or_the_shipped_is_in_use(tmp_path: Path) -> None:
    out = tmp_path / "out"
    name = registry(Workspace(out)).add(another(tmp_path / "other"))
    assert [row["in_use"] for row in listed("--out", out)] == [True, False]
    registry(Workspace(out)).promote(name, force=True)
    assert [row["in_use"] for row in listed("--out", out)] == [False, True]

"""docs/reference/sql.md is a program: every ```sql block is run and the block after it shows its result.

`python tests/support/sql_guide.py` runs them all against the fixture database and writes the results and
the list of views into the file; a test fails when the file shows anything else.
"""

from __future__ import annotations

import re
import tempfile
from dataclasses import replace
from pathlib import Path

from fixture_calls import fill, plausible_calls

from callanalytics.analysis.words import CallWords, Utterance
from callanalytics.records import Role
from callanalytics.store import open_work, publish
from callanalytics.store.query import describe_schema, render, run_query
from callanalytics.workspace import Workspace

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "sql.md"
WIDTH = 110
_QUESTION = re.compile(r"```sql\n(?P<sql>.*?)```\n\n```text\n(?P<shown>.*?)```\n", re.DOTALL)
_VIEWS = re.compile(r"(?<=<!-- views -->\n).*?(?=<!-- /views -->)", re.DOTALL)


def fixture_database(folder: Path) -> Path:
    """The published fixture."""
    with open_work(Workspace(folder / "out")) as store:
        *calls, last = plausible_calls()
        said = Utterance("speaker_0", Role.CALLER, 1.0, 2.5, "I want a supervisor", "whisper")
        fill(store, [*calls, replace(last, words=CallWords((said,), whole=True))])
        return publish(store)


def questions(guide: str) -> list[str]:
    """Every SQL text of the guide, in order."""
    return [match["sql"] for match in _QUESTION.finditer(guide)]


def written_anew(guide: str, database: Path) -> str:
    """The guide with every result as the database gives it now."""

    def answer(match: re.Match[str]) -> str:
        shown = render(run_query(database, match["sql"], max_rows=None), "table", width=WIDTH)
        return f"```sql\n{match['sql']}```\n\n```text\n{shown}```\n"

    views = [
        f"| `{entry['name']}` | {entry['comment']} |\n"
        for entry in describe_schema(database)
        if not entry["name"].startswith("base.")
    ]
    listed = "| view | what it holds |\n|---|---|\n" + "".join(views)
    return _VIEWS.sub(lambda _: listed, _QUESTION.sub(answer, guide))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        GUIDE.write_text(written_anew(GUIDE.read_text("utf-8"), fixture_database(Path(folder))), "utf-8")

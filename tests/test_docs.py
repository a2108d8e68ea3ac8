"""The documents are true: what they name exists, what they print can be run, what is generated is current."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from callanalytics import errors
from callanalytics.config import DEFAULT_RULES, RULE_MEASURES, Settings, settings_from
from callanalytics.ingest.recorders.profiles import TEMPLATE_FIELDS
from callanalytics.store.query import run_query
from jobs.cli.main import cli

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "docs"))
import generate  # noqa: E402

GUIDES = sorted(path for path in (ROOT / "docs").rglob("*.md") if path.name != "model-card.md")
ROOT_DOCUMENTS = [ROOT / f"{name}.md" for name in ("README", "ARCHITECTURE", "CHANGELOG", "CONTRIBUTING")]
DOCUMENTS = [*GUIDES, *ROOT_DOCUMENTS, ROOT / "benchmarks" / "RESULTS.md"]
PACKAGES = "callanalytics|ensemble|jobs|reports|tests|docs|benchmarks"
TRACKED = [
    path
    for folder in PACKAGES.split("|")
    for path in (ROOT / folder).rglob("*")
    if path.suffix in {".py", ".sql", ".html", ".css", ".js", ".toml"} and "__pycache__" not in path.parts
]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def inline_code(path: Path) -> list[str]:
    """What stands between single backticks, without the fenced blocks."""
    prose = re.sub(r"^```.*?^```", "", text_of(path), flags=re.DOTALL | re.MULTILINE)
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", prose)]


def code_lines(path: Path) -> Iterator[str]:
    """Lines of fenced and indented blocks, those that end in a backslash joined."""
    text = text_of(path).replace("\\\n", " ")
    for block in re.findall(r"^```\w*\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE):
        yield from block.splitlines()
    yield from (line.strip() for line in text.splitlines() if line.startswith("    "))


def commands(path: Path) -> list[list[str]]:
    """Every command line of ours in a document, split into words."""
    candidates = [*inline_code(path), *code_lines(path)]
    return [
        shlex.split(line.split(" > ")[0], comments=True)[1:]
        for line in candidates
        if re.match(r"callanalytics [a-z]", line) and "[OPTIONS]" not in line
    ]


def parsed(words: list[str]) -> None:
    """Parse a command line as Click would, without running it. Raises ClickException."""
    command: click.Command = cli
    while isinstance(command, click.Group) and words:
        context = click.Context(command)
        found = command.get_command(context, words[0])
        if found is None:  # `review CALL` has no name of its own
            found = command.get_command(context, "call")
        else:
            words = words[1:]
        if found is None:
            raise click.UsageError(f"no command {words[0]}")
        command = found
    given, _, _ = command.make_parser(click.Context(command)).parse_args(list(words))
    for option in command.params:
        value = given.get(option.name)
        for each in value if isinstance(value, list) else [value]:
            if isinstance(each, str) and isinstance(option.type, click.Choice):
                option.type.convert(each, option, None)


def test_generated_pages_are_current() -> None:
    pages = generate.pages()
    assert pages
    assert [name for name, text in pages.items() if text_of(generate.DOCS / name) != text] == [], (
        "run `make docs`"
    )


def test_every_setting_says_what_it_means() -> None:
    page = text_of(ROOT / "docs" / "reference" / "configuration.md")
    rows = re.findall(r"^\| (`\w+`) \|.*\| (.*) \|$", page, flags=re.MULTILINE)
    assert len(rows) > 70
    assert not [key for key, meaning in rows if not meaning.strip()]


def test_config_toml_has_every_key_and_all_of_them_are_accepted() -> None:
    """Those without a default stand behind a "#"."""
    config = text_of(ROOT / "config.toml")
    shown = set(generate.comments(config))
    known = {
        (table, key)
        for table, field in Settings.model_fields.items()
        if (model := generate.table_model(table, field)) is not None
        for key in model.model_fields
    }
    assert len(known) > 70
    assert shown == known
    uncommented = re.sub(r"^# (\w+ = |\[)", r"\1", config, flags=re.MULTILINE)
    settings = settings_from(tomllib.loads(uncommented), source="config.toml", folder=ROOT)
    assert settings.recorder
    assert settings.engine.time_budget_s


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_commands_can_be_run_as_printed(path: Path) -> None:
    wrong = {}
    for words in commands(path):
        try:
            parsed(words)
        except click.ClickException as problem:
            wrong[shlex.join(words)] = problem.format_message()
    assert not wrong


def test_the_documents_show_commands() -> None:
    assert sum(len(commands(path)) for path in DOCUMENTS) > 80


def test_options_and_make_targets_exist() -> None:
    options = {name for _, command in generate.commands() for o in command.params for name in o.opts}
    options |= {
        name for _, command in generate.commands() for o in command.params for name in o.secondary_opts
    }
    options |= {"--help", "--version"}
    for script in (ROOT / "benchmarks").glob("*.py"):
        options |= set(re.findall(r'add_argument\(\s*"(--[\w-]+)"', text_of(script)))
    targets = set(re.findall(r"^(\w+):", text_of(ROOT / "Makefile"), flags=re.MULTILINE))
    assert len(options) > 80
    assert {"run", "test", "docs"} <= targets
    codes = [(path.name, code) for path in DOCUMENTS for code in inline_code(path)]
    named = [(name, code.split()[0].split("=")[0]) for name, code in codes if code.startswith("--")]
    assert [entry for entry in named if entry[1] not in options] == []
    assert [c for c in codes if (m := re.match(r"make (\w+)$", c[1])) and m[1] not in targets] == []


def test_benchmarks_take_the_options_shown() -> None:
    lines = [line for path in DOCUMENTS for line in (*inline_code(path), *code_lines(path))]
    shown = [
        found.groups() for line in lines if (found := re.match(r"python (benchmarks/\w+\.py)(.*)", line))
    ]
    shown = [(script, rest) for script, rest in shown if not script.endswith("record.py")]
    assert len(shown) > 8
    options = [(script, option) for script, rest in shown for option in re.findall(r" (--[\w-]+)", rest)]
    assert [(s, option) for s, option in options if f'"{option}"' not in text_of(ROOT / s)] == []


def test_files_that_are_named_exist() -> None:
    """In backticks of the documents, and in comments and docstrings of the code."""
    names = {path.name for path in TRACKED + DOCUMENTS} | {"config.toml", "mkdocs.yml", "pyproject.toml"}
    missing = []
    for path in DOCUMENTS:
        for code in inline_code(path):
            if re.fullmatch(rf"(?:{PACKAGES})/[\w./-]+", code):
                missing += (
                    [] if (ROOT / code).exists() or code.startswith("reports/") else [(path.name, code)]
                )
            elif re.fullmatch(r"[\w-]+\.(?:py|md|sql)", code) and code not in names:
                missing.append((path.name, code))
    paths = re.compile(rf"\b(?:{PACKAGES})/[\w./-]*\w\.(?:md|py|sql)\b|\b[A-Z]{{4,}}\.md\b")
    for path in [*TRACKED, ROOT / "config.toml", ROOT / "Makefile"]:
        for named in paths.findall(text_of(path)):
            if named not in names and not any((base / named).exists() for base in (ROOT, ROOT / "tests")):
                missing.append((str(path.relative_to(ROOT)), named))
    assert missing == []


def test_the_architecture_names_every_folder() -> None:
    text = text_of(ROOT / "ARCHITECTURE.md")
    folders = [
        f"`{package}/{folder.name}/`"
        for package in ("callanalytics", "ensemble", "reports", "jobs")
        for folder in (ROOT / package).iterdir()
        if any(folder.glob("*.py"))
    ]
    assert len(folders) > 20
    assert [folder for folder in folders if folder not in text] == []


def test_links_of_the_documents_in_the_root_exist() -> None:
    """Those inside docs/ are checked by MkDocs, strictly."""
    links = [link for path in ROOT_DOCUMENTS for link in re.findall(r"\]\(([^)#]+)", text_of(path))]
    assert len(links) > 20
    assert [link for link in links if not link.startswith("https://") and not (ROOT / link).exists()] == []


def test_the_settings_shown_are_accepted() -> None:
    blocks = [
        block
        for path in GUIDES
        for block in re.findall(r"^```toml\n(.*?)^```", text_of(path), flags=re.DOTALL | re.MULTILINE)
    ]
    assert len(blocks) >= 5
    for block in blocks:
        settings_from(tomllib.loads(block), source="a document", folder=ROOT)


def test_the_queries_shown_give_an_answer(plausible_out: Path) -> None:
    database = plausible_out / "callanalytics.duckdb"
    asked = {
        words[-1]
        for path in DOCUMENTS
        for words in commands(path)
        if words[0] == "query" and len(words) > 1 and "-f" not in words
    }
    asked |= {c for path in DOCUMENTS for c in inline_code(path) if re.fullmatch(r"FROM [a-z_]+", c)}
    assert len(asked) >= 5
    for sql in asked:
        run_query(database, sql, max_rows=None)


def test_measures_rules_and_exit_codes_are_all_described() -> None:
    page = text_of(ROOT / "docs" / "reference" / "measures.md")
    assert [measure for measure in RULE_MEASURES if f"`{measure}`" not in page] == []
    rows = [f"| `{rule.name}` |" for rule in DEFAULT_RULES]
    shown = [line for line in page.splitlines() if line.startswith(tuple(rows))]
    assert len(shown) == len(DEFAULT_RULES)
    expected = [(f"`{r.measure}`", f"{r.at_least:g}", f"| {r.weight:g} |") for r in DEFAULT_RULES]
    wrong = [
        line
        for (measure, threshold, weight), line in zip(expected, shown, strict=True)
        if measure not in line or threshold not in line or not line.endswith(weight)
    ]
    assert wrong == []
    codes = text_of(ROOT / "docs" / "reference" / "exit-codes.md")
    raised = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    exit_codes = {e.exit_code for e in raised if hasattr(e, "exit_code")}
    assert {1, 2, 5} <= exit_codes
    assert [code for code in exit_codes if f"| {code} |" not in codes] == []
    reasons = {e.reason for e in raised if hasattr(e, "reason")}
    assert len(reasons) >= 10
    assert [reason for reason in reasons if f"`{reason}`" not in codes] == []


def test_the_fields_of_templates_are_described() -> None:
    page = text_of(ROOT / "docs" / "guides" / "recorders.md")
    assert len(TEMPLATE_FIELDS) > 15
    assert [field for field in TEMPLATE_FIELDS if f"`{field}`" not in page] == []


def test_the_readme_is_short() -> None:
    assert len(text_of(ROOT / "README.md").splitlines()) < 90

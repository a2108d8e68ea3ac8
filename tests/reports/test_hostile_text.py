"""Every template with hostile text in every field: no field can become markup.

A view stands for whatever the templates ask of it and answers each field with text that tries to leave where
it is put: an attribute, an element, a comment. What decides is whether an HTML parser sees the element that
it would make.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import jinja2
import pytest
from jinja2 import meta

from ensemble.evaluation.model_card import render_template
from jobs.app import markup
from reports import render as pages

ROOT = Path(__file__).parents[2]
HOSTILE = "\"'-->]]></style></script><x-hostile onhostile='1'>&quot;{{ 7 * 7 }}"
FOLDERS = {
    "reports": ROOT / "reports" / "templates",
    "jobs.app": ROOT / "jobs" / "app" / "templates",
    "ensemble.baselines": ROOT / "ensemble" / "baselines" / "templates",
    "ensemble.evaluation": ROOT / "ensemble" / "evaluation" / "templates",
}
SAFE = {
    ("macros.html", "c.svg"),  # drawn by our own charts, which escape what they write
    ("single.html", "style"),  # the style sheet and the script of the package
    ("single.html", "script"),
}
"""All that is printed as it is: template and field."""
WIDTHS = {"counts[]": 3, "rows[]": 3, "matrices[]": 3, "rows[][][]": 3, "reliability[]": 3}
"""How many values a list has that a template takes apart, where it is not two."""
VALUES: dict[str, dict[str, Any]] = {"review.html": {"data": {"calls": [HOSTILE], "percents": [HOSTILE] * 2}}}
"""Views that a template prints as JSON, which only plain values can be."""
PAGES = sorted((package, path.name) for package, folder in FOLDERS.items() for path in folder.glob("*.html"))


class Hostile:
    """Any field, any number, any list and any function; as text, hostile unless its name is safe."""

    def __init__(self, name: str, choose: Callable[[], bool]) -> None:
        self._name, self._choose = name, choose

    def _other(self, name: str) -> Hostile:
        return Hostile(name, self._choose)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Jinja asks for __html__, which would say that no escape is needed
            raise AttributeError(name)
        return self._other(name)

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):  # the beginning of a text, or the rest of a list
            return list(self)[key] if key.stop is None else str(self)[key]
        return self._other(str(key))

    def __call__(self, *given: Any, **named: Any) -> Hostile:
        return self._other(self._name)

    def __iter__(self) -> Iterator[Hostile]:
        inside = f"{self._name}[]"
        return iter([self._other(inside)] * WIDTHS.get(self._name, 2))

    def __len__(self) -> int:
        return 2

    def __bool__(self) -> bool:
        return self._choose()

    def __str__(self) -> str:
        return "" if self._name in {field.split(".")[-1] for _, field in SAFE} else HOSTILE

    def __format__(self, how: str) -> str:
        return str(self)

    def __add__(self, other: object) -> Hostile:
        return self

    def __float__(self) -> float:
        return 0.5

    __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __add__
    __truediv__ = __rtruediv__ = __mod__ = __pow__ = __neg__ = __add__

    def __lt__(self, other: object) -> bool:
        return self._choose()

    __le__ = __gt__ = __ge__ = __lt__

    def __eq__(self, other: object) -> bool:
        return self._choose()

    def __hash__(self) -> int:
        return hash(self._name)


class Seen(HTMLParser):
    """What a parser makes of a page: all tags and the names of all attributes."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}


def asked_for(source: str) -> set[str]:
    """The names that a template takes from its view, those of what it extends or includes among them."""
    tree = jinja2.Environment().parse(source)
    names = meta.find_undeclared_variables(tree)
    for other in filter(None, meta.find_referenced_templates(tree)):
        (path,) = (folder / other for folder in FOLDERS.values() if (folder / other).exists())
        names |= asked_for(path.read_text(encoding="utf-8"))
    return names


def rendered(package: str, name: str, seed: int) -> str:
    """A template with a view that chooses its branches by a seed; 0 takes every one that is true."""
    draw = random.Random(seed).random
    choose = (lambda: True) if seed == 0 else (lambda: draw() < 0.5)
    names = asked_for((FOLDERS[package] / name).read_text(encoding="utf-8"))
    view: dict[str, Any] = {each: Hostile(each, choose) for each in names}
    view |= {each: VALUES[name][each] for each in names & VALUES.get(name, {}).keys()}
    if package == "reports":
        return pages.render(name, **view)
    if package == "jobs.app":
        return markup.render(name, **view)
    return render_template(package, name, **view)


def test_what_is_printed_as_it_is_is_on_the_list() -> None:
    found = {
        (path.name, field)
        for folder in FOLDERS.values()
        for path in folder.iterdir()
        if path.suffix in {".html", ".txt", ".md"}
        for field in re.findall(r"([\w.]+)\s*\|\s*safe\b", path.read_text(encoding="utf-8"))
    }
    assert found == SAFE
    elsewhere = [
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for package in ("reports", "jobs", "ensemble", "callanalytics")
        for path in [*(ROOT / package).rglob("*.py"), *(ROOT / package).rglob("*.html")]
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.search(r"\bMarkup\(|import Markup|__html__|autoescape\s+false", line)
    ]
    assert elsewhere == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("package", "name"), PAGES)
def test_no_field_of_a_template_becomes_markup(package: str, name: str, seed: int) -> None:
    text = rendered(package, name, seed)
    seen = Seen(text)
    assert "x-hostile" not in seen.tags
    assert "onhostile" not in seen.attributes
    assert "<x-hostile" not in text, "also where a parser sees no element, as in a comment"


def test_the_views_reach_the_pages() -> None:
    """Without escaping, the same test would see the element: most templates print what they are given."""
    printing = [(package, name) for package, name in PAGES if "x-hostile" in rendered(package, name, 0)]
    assert len(printing) > len(PAGES) * 0.8, sorted(set(PAGES) - set(printing))

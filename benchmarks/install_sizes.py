"""How much disk the packages of a night take, and what each extra adds: the table of docs/start/install.md.

    python benchmarks/install_sizes.py

Counts the files of what is installed in this environment, which should hold every extra
(`pip install '.[test,bench,ray,s3]'`); what is not installed is named. Nothing is downloaded.
"""

from __future__ import annotations

import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
OWN = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = ("demo", "app", "train", "bench", "words", "ray", "notify", "s3")
PACKAGES = ("callanalytics", "ensemble", "jobs", "reports")
MOST_NAMED = 4


def needed(extra: str) -> tuple[dict[str, Distribution], set[str]]:
    """What callanalytics needs with an extra, by name; and what of that is not installed."""
    found: dict[str, Distribution] = {}
    missing: set[str] = set()
    seen = set[tuple[str, str]]()
    todo = [("callanalytics", ""), ("callanalytics", extra)]
    while todo:
        name, chosen = todo.pop()
        if (name, chosen) in seen:
            continue
        seen.add((name, chosen))
        if name == "callanalytics":  # as this checkout says, whatever is installed
            lines = OWN["optional-dependencies"][chosen] if chosen else OWN["dependencies"]
        else:
            try:
                found[name] = distribution(name)
            except PackageNotFoundError:
                missing.add(name)
                continue
            lines = found[name].requires or ()
        for wanted in map(Requirement, lines):
            if wanted.marker is None or wanted.marker.evaluate({"extra": chosen}):
                other = canonicalize_name(wanted.name)
                todo += [(other, ""), *((other, more) for more in sorted(wanted.extras))]
    return found, missing


def size_mb(package: Distribution) -> float:
    places = {Path(str(package.locate_file(file))) for file in package.files or ()}
    return sum(place.stat().st_size for place in places if place.is_file()) / 1e6


def main() -> None:
    base, missing = needed("")
    sizes = {name: size_mb(package) for name, package in base.items()}
    own = (path for name in PACKAGES for path in (ROOT / name).rglob("*") if path.is_file())
    sizes["callanalytics"] = sum(path.stat().st_size for path in own) / 1e6
    print("| install | MB | of these |\n|---|---|---|")
    print(f"| callanalytics | {sum(sizes.values()):.0f} | {_largest(sizes)} |{_lacking(missing)}")
    for extra in EXTRAS:
        more, missing = needed(extra)
        added = {name: size_mb(package) for name, package in more.items() if name not in base}
        print(
            f"| callanalytics[{extra}] | +{sum(added.values()):.0f} | {_largest(added)} |{_lacking(missing)}"
        )


def _largest(sizes: dict[str, float]) -> str:
    chosen = sorted(sizes, key=lambda name: -sizes[name])[:MOST_NAMED]
    return ", ".join(f"{name} {sizes[name]:.0f}" for name in chosen)


def _lacking(missing: set[str]) -> str:
    return f" not installed: {', '.join(sorted(missing))}" if missing else ""


if __name__ == "__main__":
    main()

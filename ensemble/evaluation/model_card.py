"""The model card: what an ensemble is, how well it does, and where it should not be trusted.

One self-contained HTML page (no script, no request to anywhere) and one Markdown text, both from
``card.json`` and the result of :func:`ensemble.evaluation.evaluate`. Every figure comes from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from ensemble.evaluation import NOT_CORPORA
from ensemble.inference.card import trained_on

Row = Sequence[str]
Table = tuple[Row, list[Row]]
"""Heading and rows of text."""
BY_STATISTICS = {
    "clip": "clip alone",
    "speaker": "compared with the speaker's other clips",
    "calm": "compared with the speaker's neutral clips",
}
FACTS = (
    "note",
    "trained_on",
    "n_training_clips",
    "n_training_speakers",
    "licence",
    "made_at",
    "code_version",
)
VOICE_NETWORK = (
    "on CAM++ (3D-Speaker, Apache-2.0, 6.85 million parameters, its front half used, frozen)",
    "by its authors, to tell speakers apart in Chinese and English; its recordings are not published in full",
)
SCORES = ("n", "WA", "UAR", "95 %", "macro-F1", "ECE", "if perfect", "named", "right then")


def render_template(package: str, name: str, **values: object) -> str:
    """Fill a Jinja template of ``package``; values are escaped in HTML, and each must be given."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

    # Not by the name of the package: a folder of that name in the working folder may be taken for it.
    templates = Path(str(import_module(package).__file__)).with_name("templates")
    environment = Environment(
        loader=FileSystemLoader(templates),
        autoescape=select_autoescape(["html"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.get_template(name).render(**values)


def reports_of(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(corpus, channel condition, speaker statistics, report) for every report in ``results``."""
    for corpus, rows in results.items():
        if corpus in NOT_CORPORA:
            continue
        for condition, by_known in rows.items():
            if isinstance(by_known, Mapping):
                for known, found in by_known.items():
                    if isinstance(found, Mapping):
                        yield corpus, condition, known, found


def score_table(results: Mapping[str, Any]) -> Table:
    """The vote's WA, UAR with its interval, F1, ECE and abstaining, one row per report."""
    rows: list[Row] = [
        (
            *(corpus, condition, known, str(r["n"]), percent(r["wa"]), percent(r["uar"])),
            *(interval(r["interval_95"]["uar"]), percent(r["macro_f1"])),
            *(f"{r['ece']:.3f}", f"{r['ece_if_perfect']:.3f}"),
            *(percent(r["abstaining"]["coverage"]), percent(r["abstaining"]["accuracy"])),
        )
        for corpus, condition, known, r in reports_of(results)
    ]
    return ("corpus", "condition", "speaker known by", *SCORES), rows


def member_table(results: Mapping[str, Any]) -> Table:
    """UAR of each member beside the vote and soft voting."""
    found = list(reports_of(results))
    members = list(found[0][3]["members"]) if found else []
    rows: list[Row] = [
        (
            *key,
            *(percent(r["members"][m]["uar"]) for m in members),
            percent(r["soft"]["uar"]),
            percent(r["uar"]),
        )
        for *key, r in found
    ]
    return ("corpus", "condition", "speaker known by", *members, "soft", "vote"), rows


def ordinary_table(results: Mapping[str, Any]) -> Table:
    """Shares of the segments of ordinary calls by side (benchmarks/ordinary_calls.py), percent."""
    rows: list[Row] = [
        (
            side,
            str(r["n_segments"]),
            *map(percent, (r["without_label"], r["other_than_neutral"], r["anger_among_labelled"])),
        )
        for side, r in results["ordinary_calls"].items()
    ]
    return ("side", "segments", "without label", "other than neutral", "anger among the labelled"), rows


def shown_condition(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """The report to give in detail: telephone, normalised by speaker, where there is such a one."""
    found = [(corpus, condition, known) for corpus, condition, known, _ in reports_of(results)]
    return min(found, key=lambda c: (c[1] != "telephone", c[2] != "speaker"))


def write_card_pages(folder: Path, card: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """Write ``results.json``, ``model-card.md`` and ``model-card.html`` into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    for name in ("model-card.md", "model-card.html"):
        (folder / name).write_text(card_page(name, card, results), encoding="utf-8")


def card_page(
    name: str, card: Mapping[str, Any], results: Mapping[str, Any], shown: tuple[str, str, str] | None = None
) -> str:
    """Fill the template ``model-card.md`` or ``model-card.html``; ``shown`` is the report given in detail."""
    corpus, condition, known = shown or shown_condition(results)
    report = results[corpus][condition][known]
    labels, counts = list(report["per_class"]), report["confusion"]
    classes = [
        (label, str(c["n"]), *map(percent, (c["precision"], c["recall"], c["f1"], report["auc"].get(label))))
        for label, c in report["per_class"].items()
    ]
    return render_template(
        "ensemble.evaluation",
        name,
        facts=facts(card),
        parts=parts_table(card),
        taught=bool(card.get("teachers")),
        limits=card.get("limits", ()),
        scores=score_table(results),
        members=member_table(results),
        ordinary=ordinary_table(results) if "ordinary_calls" in results else None,
        title=f"{corpus}, {condition}, {BY_STATISTICS[known]}",
        classes=(("emotion", "n", "precision", "recall", "F1", "AUC"), classes),
        coverage=(("share named", "accuracy"), [tuple(map(percent, row)) for row in report["coverage"]]),
        confusion=(("", *labels), [(label, *row) for label, row in zip(labels, counts, strict=True)]),
        shares=[
            (label, [count / max(sum(row), 1) for count in row])
            for label, row in zip(labels, counts, strict=True)
        ],
        reliability=report["reliability"],
    )


def parts_table(card: Mapping[str, Any]) -> Table:
    """What each member is made of, and what its parts were trained on, as far as that is known."""
    corpora = sorted(trained_on(card)) or ["what its card does not name"]
    ours = f"on {', '.join(corpora)}"
    teachers = {t["name"]: f"{t['name']} ({t['about']}; {t['trained_on']})" for t in card.get("teachers", ())}
    rows: list[Row] = []
    for member in card["members"]:
        on_voice = "body_sha256" in member
        own = ", ".join(teachers[name] for name in member.get("taught_by", ()))
        body = f"with teachers, in training only: {own}" if own else "from scratch"
        body, trained = VOICE_NETWORK if on_voice else (body, ours)
        head = f"heads: {ours}; body: {trained}" if on_voice else trained
        rows.append((member["name"], f"{member['n_parameters']:,}", body, head))
    return ("member", "own parameters", "body", "trained"), rows


def facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an ensemble is, as (entry, value) for people."""
    members = ", ".join(f"{m['name']} ({m['n_parameters']:,} parameters)" for m in card["members"])
    return [
        ("ensemble", str(card["ensemble_id"])),
        ("members", members),
        ("labels", ", ".join(card["labels"])),
        ("rule", f"{card['rule']}, temperature {card['temperature']:.3f}"),
        *_trained_alone(card),
        *(
            (key.replace("_", " "), ", ".join(card[key]) if isinstance(card[key], list) else str(card[key]))
            for key in FACTS
            if key in card
        ),
    ]


def _trained_alone(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The vote without the voice network's member, that voices have which are surely the agent's."""
    if (alone := card.get("trained_alone")) is None:
        return []
    scores = alone.get("centred", {})
    each = (f"{percent(scores.get(f'uar_{how}'))} ({how})" for how in BY_STATISTICS)
    return [("voices of sure agents", f"by the trained members alone; UAR held out {', '.join(each)}")]


def percent(share: float | None) -> str:
    """A share of 0..1 in percent; a dash for none."""
    return "-" if share is None else f"{100 * share:.1f}"


def interval(shares: Sequence[float] | None) -> str:
    """An interval in percent; a dash for none, of too few speakers."""
    return "-".join(map(percent, shares)) if shares else "-"

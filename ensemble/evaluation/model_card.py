"""The model card: what an ensemble is, how well it does, and where it should not be trusted.

One self-contained HTML page (no script, no request to anywhere) and one
Markdown text, both from ``card.json`` and the result of
:func:`ensemble.evaluation.metrics.evaluate`. Every figure comes from there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from ensemble.evaluation.metrics import NOT_CORPORA

Row = Sequence[str]
_NAMES = {
    "clip": "clip alone",
    "speaker": "normalised by the speaker's other clips",
    "calm": "normalised by the speaker's neutral and happy clips",
}


def conditions(results: Mapping[str, Any]) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """(corpus, line, known, report) for every condition in ``results``."""
    for corpus, rows in results.items():
        if corpus in NOT_CORPORA:
            continue
        for line, by_known in rows.items():
            if isinstance(by_known, Mapping):
                for known, found in by_known.items():
                    if isinstance(found, Mapping):
                        yield corpus, line, known, found


def score_table(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Heading and one row per condition: vote's WA, UAR with its interval, F1, ECE, abstaining."""
    head = (
        "corpus",
        "line",
        "speaker known by",
        "n",
        "WA",
        "UAR",
        "95 %",
        "macro-F1",
        "ECE",
        "if perfect",
        "named",
        "right then",
    )
    rows: list[Row] = []
    for corpus, line, known, r in conditions(results):
        rows.append(
            (
                corpus,
                line,
                known,
                str(r["n"]),
                _percent(r["wa"]),
                _percent(r["uar"]),
                _span(r["interval_95"]["uar"]),
                _percent(r["macro_f1"]),
                f"{r['ece']:.3f}",
                f"{r['ece_if_perfect']:.3f}",
                _percent(r["abstaining"]["coverage"]),
                _percent(r["abstaining"]["accuracy"]),
            )
        )
    return head, rows


def _span(interval: Sequence[float] | None) -> str:
    """An interval in percent; none, of too few speakers, is a dash."""
    return "-" if interval is None else "-".join(map(_percent, interval))


def member_table(results: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """UAR of each member beside the vote and soft voting."""
    found = list(conditions(results))
    members = list(found[0][3]["members"]) if found else []
    head = ("corpus", "line", "speaker known by", *members, "soft", "majority vote")
    rows: list[Row] = [
        (
            corpus,
            line,
            known,
            *(_percent(r["members"][m]["uar"]) for m in members),
            _percent(r["soft"]["uar"]),
            _percent(r["uar"]),
        )
        for corpus, line, known, r in found
    ]
    return head, rows


def class_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Precision, recall, F1, AUC and number of clips of each emotion."""
    rows: list[Row] = [
        (
            label,
            str(c["n"]),
            _percent(c["precision"]),
            _percent(c["recall"]),
            _percent(c["f1"]),
            _percent(report["auc"].get(label)),
        )
        for label, c in report["per_class"].items()
    ]
    return ("emotion", "n", "precision", "recall", "F1", "AUC"), rows


def coverage_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    """Accuracy among the most confident share of the clips."""
    rows: list[Row] = [(_percent(c), _percent(a)) for c, a in report["coverage"]]
    return ("share named", "accuracy"), rows


def shown_condition(results: Mapping[str, Any]) -> tuple[str, str, str]:
    """The condition to give in detail: telephone, normalised by speaker, where there is such a one."""
    found = [(corpus, line, known) for corpus, line, known, _ in conditions(results)]
    return min(found, key=lambda c: (c[1] != "telephone", c[2] != "speaker"))


def write_card_pages(folder: Path, card: Mapping[str, Any], results: Mapping[str, Any]) -> None:
    """``results.json``, ``model-card.md`` and ``model-card.html`` in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    shown = shown_condition(results)
    (folder / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (folder / "model-card.md").write_text(markdown(card, results, shown), encoding="utf-8")
    (folder / "model-card.html").write_text(html(card, results, shown), encoding="utf-8")


def markdown(card: Mapping[str, Any], results: Mapping[str, Any], shown: tuple[str, str, str]) -> str:
    """The card as Markdown; ``shown`` is the condition given in detail."""
    report = results[shown[0]][shown[1]][shown[2]]
    parts = [
        "# Model card",
        "",
        *(f"- {key}: {value}" for key, value in facts(card)),
        "",
        "## Scores",
        "",
        "UAR is the mean recall over emotions, WA the accuracy; percent. Each way of knowing the speaker is "
        "a test of its own: `clip` the clip alone, `speaker` all clips of that speaker (no labels), "
        "`calm` only the neutral and happy ones. Intervals: bootstrap over speakers. `named` is the share "
        "of clips that are not abstained on, `right then` the accuracy among them; `if perfect` the ECE that "
        "a perfectly calibrated ensemble would show by chance with so few clips.",
        "",
        _markdown_table(*score_table(results)),
        "",
        "## Members against the vote (UAR)",
        "",
        _markdown_table(*member_table(results)),
        "",
        f"## In detail: {shown[0]}, {shown[1]}, {_NAMES[shown[2]]}",
        "",
        _markdown_table(*class_table(report)),
        "",
        _markdown_table(*coverage_table(report)),
        "",
        "Confusion (row: said by the actor, column: heard by the ensemble):",
        "",
        _markdown_table(*_confusion_table(report)),
        "",
        "## Limits",
        "",
        *(f"- {limit}" for limit in card.get("limits", ())),
    ]
    return "\n".join(parts) + "\n"


def _confusion_table(report: Mapping[str, Any]) -> tuple[Row, list[Row]]:
    labels = list(report["per_class"])
    rows: list[Row] = [
        (label, *map(str, row)) for label, row in zip(labels, report["confusion"], strict=True)
    ]
    return ("", *labels), rows


def html(card: Mapping[str, Any], results: Mapping[str, Any], shown: tuple[str, str, str]) -> str:
    """The card as one HTML page with pictures; ``shown`` is the condition given in detail."""
    report = results[shown[0]][shown[1]][shown[2]]
    told = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in facts(card))
    limits = "".join(f"<li>{escape(str(limit))}</li>" for limit in card.get("limits", ()))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Model card</title><style>
body{{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}}
table{{border-collapse:collapse;font-size:.85rem}}th,td{{padding:.25rem .6rem;border-bottom:1px solid #ddd}}
td:nth-child(n+4){{text-align:right}}dt{{font-weight:600}}dd{{margin:0 0 .4rem}}
.wide{{overflow-x:auto}}figure{{display:inline-block;margin:1rem 1rem 1rem 0;max-width:100%}}
svg{{max-width:100%;height:auto}}
</style></head><body><h1>Model card</h1><dl>{told}</dl>
<h2>Scores</h2>
<p>Percent. UAR is the mean recall over emotions. Each way of knowing the speaker is a test
of its own. Intervals by bootstrap over speakers.</p>
<div class="wide">{_html_table(*score_table(results))}</div>
<h2>Members against the vote (UAR)</h2><div class="wide">{_html_table(*member_table(results))}</div>
<h2>{escape(shown[0])}, {escape(shown[1])}, {escape(_NAMES[shown[2]])}</h2>
<div class="wide">{_html_table(*class_table(report))}</div>
<figure>{confusion_picture(report)}<figcaption>Confusion: share of each spoken emotion</figcaption></figure>
<figure>{reliability_picture(report)}<figcaption>Reliability: accuracy by confidence</figcaption></figure>
<h2>Coverage against accuracy</h2>{_html_table(*coverage_table(report))}
<h2>Limits</h2><ul>{limits}</ul></body></html>
"""


def confusion_picture(report: Mapping[str, Any]) -> str:
    """SVG of the confusion matrix, rows scaled to 1."""
    labels, cell, left = list(report["per_class"]), 46, 76
    size = left + cell * len(labels)
    parts = []
    for i, (label, row) in enumerate(zip(labels, report["confusion"], strict=True)):
        y = 24 + i * cell
        parts.append(f'<text x="{left - 6}" y="{y + 28}" text-anchor="end">{escape(label)}</text>')
        parts.append(
            f'<text x="{left + i * cell + 23}" y="16" text-anchor="middle">{escape(label[:7])}</text>'
        )
        for j, count in enumerate(row):
            share = count / max(sum(row), 1)
            ink = "#fff" if share > 0.5 else "#1b1f24"
            parts.append(
                f'<rect x="{left + j * cell}" y="{y}" width="{cell - 2}" height="{cell - 2}" fill="#1f5fa8" '
                f'fill-opacity="{share:.3f}" stroke="#ddd"/><text x="{left + j * cell + 22}" y="{y + 27}" '
                f'text-anchor="middle" fill="{ink}">{100 * share:.0f}</text>'
            )
    return _svg(size, size - left + 30, "Confusion matrix", parts)


def reliability_picture(report: Mapping[str, Any]) -> str:
    """SVG of accuracy against confidence; the size of a point is its share of the clips."""
    parts = ['<path d="M30 290 L290 30" stroke="#999" stroke-dasharray="4"/>']
    parts += [
        f'<circle cx="{30 + 260 * confidence:.1f}" cy="{290 - 260 * accuracy:.1f}" '
        f'r="{3 + 14 * share**0.5:.1f}" fill="#1f5fa8" fill-opacity=".6"/>'
        for confidence, accuracy, share in report["reliability"]
    ]
    parts += [
        f'<text x="{30 + 26 * t}" y="308" text-anchor="middle">{t / 10:g}</text>'
        f'<text x="24" y="{294 - 26 * t}" text-anchor="end">{t / 10:g}</text>'
        for t in range(0, 11, 2)
    ]
    return _svg(320, 316, "Reliability plot", parts)


def _svg(width: int, height: int, title: str, parts: Sequence[str]) -> str:
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" '
        f'font-size="12" font-family="system-ui,sans-serif"><title>{title}</title>{"".join(parts)}</svg>'
    )


def facts(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What an ensemble is, as (entry, value) for people."""
    members = ", ".join(f"{m['name']} ({m['n_parameters']:,} parameters)" for m in card["members"])
    found = [
        ("ensemble", str(card["ensemble_id"])),
        ("members", members),
        ("labels", ", ".join(card["labels"])),
        ("rule", f"{card['rule']}, temperature {card['temperature']:.3f}"),
    ]
    known = (
        "note",
        "trained_on",
        "n_training_clips",
        "n_training_speakers",
        "licence",
        "made_at",
        "code_version",
    )
    for key in known:
        if key in card:
            value = card[key]
            found.append((key.replace("_", " "), ", ".join(value) if isinstance(value, list) else str(value)))
    return found


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _markdown_table(head: Row, rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + " --- |" * len(head)]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _html_table(head: Row, rows: Sequence[Row]) -> str:
    top = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"

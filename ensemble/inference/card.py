"""The card beside an ensemble's weights: reading it, its fingerprint, and the check of its files."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ensemble.model_errors import LeakError, ModelIncompatible, ModelMissing

CARD_FORMAT = 1
MAX_CARD_BYTES = 10_000_000
SETTINGS = ("labels", "front_end", "reference", "temperature", "thresholds", "rule", "format")
"""Entries beside ``members`` that change answers."""


def read_card(folder: Path) -> dict[str, Any]:
    """The card of an ensemble folder, JSON values.

    Raises:
        ModelMissing: when there is none.
        ModelIncompatible: when it is not JSON, of another format, or names files elsewhere.
    """
    path = folder / "card.json"
    if not path.is_file():
        raise ModelMissing(
            f"{path} not found: reinstall the package, or name the folder of a trained ensemble"
        )
    try:
        if path.stat().st_size > MAX_CARD_BYTES:
            raise ModelIncompatible(f"{path}: larger than {MAX_CARD_BYTES:,} bytes; restore it")
        card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelIncompatible(f"{path} is not JSON ({error}); restore it") from error
    whole = isinstance(card, dict) and {"members", *SETTINGS} <= set(card)
    if not whole or card["format"] != CARD_FORMAT:
        raise ModelIncompatible(
            f"{path}: not a card of format {CARD_FORMAT} with all its entries; train again with this version"
        )
    _check_names(path, card["members"])
    if card.get("heads") is not None:
        _check_names(path, [{"body_sha256": "", **card["heads"]}])
    return card


def trained_on(card: Mapping[str, Any]) -> frozenset[str]:
    """Names of the corpora it was trained on, also in the trainings that it began from."""
    corpora = card.get("trained_on")
    return frozenset(map(str, corpora)) if isinstance(corpora, list) else frozenset()


def known_speakers(card: Mapping[str, Any], speakers: frozenset[str]) -> frozenset[str]:
    """Those of ``speakers`` (``corpus/id``) whom an ensemble may have been trained on, by its card.

    Without a list of speakers in the card these are all of its corpora; without corpora, everybody.
    """
    if "heard_speakers" in card:
        return speakers.intersection(card["heard_speakers"])
    corpora = trained_on(card)
    return frozenset(s for s in speakers if not corpora or s.partition("/")[0] in corpora)


def refuse_known(card: Mapping[str, Any], held_out: frozenset[str]) -> None:
    """Refuse an ensemble to begin from that may have been trained on a speaker who is held out.

    Raises:
        LeakError: naming some of these speakers.
    """
    if known := known_speakers(card, held_out):
        raise LeakError(
            f"ensemble {card.get('ensemble_id', '?')} to begin from was trained on {len(known)} of the "
            f"speakers held out, {', '.join(sorted(known)[:3])} among them: begin from one of other corpora, "
            "hold out others, or train from scratch"
        )


def files_of(card: Mapping[str, Any]) -> list[tuple[str, str]]:
    """(name, SHA-256) of every file that belongs to an ensemble beside its card."""
    files = [(entry[kind], entry[f"{kind}_sha256"]) for entry in card["members"] for kind in _kinds_of(entry)]
    if (heads := card.get("heads")) is not None:
        files.append((heads["safetensors"], heads["safetensors_sha256"]))
    return files


def _kinds_of(entry: object) -> tuple[str, ...]:
    """Files of a member: the night needs the graph, a GPU the weights; of the voice member only a head."""
    is_head = isinstance(entry, dict) and "body_sha256" in entry
    return ("safetensors",) if is_head else ("onnx", "safetensors")


def _check_names(path: Path, members: object) -> None:
    """Files of a card lie beside it: their names are joined to paths here and when it is copied."""
    entries = members if isinstance(members, list) else [None]
    for entry in entries:
        for kind in _kinds_of(entry):
            name = entry.get(kind) if isinstance(entry, dict) else None
            if not isinstance(name, str) or not name or Path(name).name != name:
                raise ModelIncompatible(
                    f"{path}: members: {kind} = {name!r} is no file beside the card; restore it"
                )


def fingerprint(card: Mapping[str, Any]) -> str:
    """16 hexadecimal digits over everything in a card that can change an answer."""
    content = [
        [
            [e["name"], e.get("onnx_sha256") or e["body_sha256"], e["safetensors_sha256"], e["weight"]]
            for e in card["members"]
        ],
        [card[key] for key in SETTINGS],
    ]
    if (heads := card.get("heads")) is not None:
        content.append([[key, heads[key]] for key in sorted(heads)])
    if (alone := card.get("trained_alone")) is not None:
        content.append([[key, alone[key]] for key in ("temperature", "heads_temperature", "thresholds")])
    if not card.get("speaker_norm", True):
        content.append(["every clip alone"])
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def checked_file(folder: Path, name: str, sha256: str) -> Path:
    """Path of a file that the card names, once its content is the one the card was written for.

    Raises:
        ModelMissing: when it is not there.
        ModelIncompatible: when its content is another.
    """
    path = folder / name
    if not path.is_file():
        raise ModelMissing(f"{path}: named in the card but not there; restore it or choose another ensemble")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != sha256:
        raise ModelIncompatible(f"{path}: content {found[:12]} is not the card's {sha256[:12]}; restore both")
    return path

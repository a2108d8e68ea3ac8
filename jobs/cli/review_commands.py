"""Reviews: a verdict on a call, many from a CSV, which call to review next; labels as a training corpus."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from callanalytics.records.text import counted
from jobs.cli.console import say
from jobs.cli.options import folder_type, in_workspace, json_option, with_settings

if TYPE_CHECKING:
    from callanalytics.config import Settings
    from callanalytics.workspace import Workspace

EMOTIONS = ("anger", "boredom", "calm", "disgust", "fear", "happy", "neutral", "sad", "surprise")
PUBLISHED = "Published with the next run."


class CallFirst(click.Group):
    """`review CALL ...` is `review call CALL ...`: an id is hexadecimal and never one of the other words."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:  # noqa: D102 click's own
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = ["call", *args]
        return super().parse_args(ctx, args)


@click.group(cls=CallFirst)
def review() -> None:
    """Say what is true of a call: review CALL --verdict confirm. Also: review next, undo, import FILE.

    Of a call or a rule, "confirm" means worth flagging; of a segment, that the voted emotion is right.
    Reviews show each rule's precision (FROM rule_precision) and teach the next ensemble. They wait in one
    queue with those of the review app, and are published with the next run.

    With CALL: --rule NAME judges one rule that fired, --segment N one segment, where --emotion says what
    you hear; --note TEXT is for others, --by NAME says who you are. All of them: review CALL --help.
    """


@review.command(hidden=True)
@click.argument("call")
@click.option("--verdict", type=click.Choice(["confirm", "reject", "unsure"]), required=True)
@click.option("--rule", help="Judge one rule that fired, not the whole flag.")
@click.option("--segment", type=click.IntRange(min=0), help="Judge one segment, by its number.")
@click.option("--emotion", type=click.Choice(EMOTIONS), help="What you hear in the segment.")
@click.option("--note", help="Text for others.")
@click.option("--by", help="Who says so (default: $USER).")
@in_workspace
def call(
    call: str,
    verdict: str,
    rule: str | None,
    segment: int | None,
    emotion: str | None,
    note: str | None,
    by: str | None,
    workspace: Workspace,
) -> None:
    """Review one call, one of its rules, or one of its segments."""
    from callanalytics.store import Review
    from jobs.reviews import give

    answer = Review(
        call,
        verdict,
        rule=rule,
        segment=segment,
        emotion=emotion,
        reviewer=by or os.environ.get("USER"),
        note=note,
    )
    given = give(workspace, [answer])
    say(f"{given.call_ids[0]}: {verdict}. {PUBLISHED}{_known(given.n_known)}")


@review.command("import")
@click.argument("file", type=folder_type)
@click.option("--by", help="Who says so, where the file does not (default: $USER).")
@in_workspace
def import_(file: Path, by: str | None, workspace: Workspace) -> None:
    """Reviews of a CSV: call_id, verdict; optional rule, segment, emotion, reviewer, note. All or none."""
    from jobs.reviews import give, read_csv

    reviews = read_csv(file, reviewer=by or os.environ.get("USER"))
    given = give(workspace, reviews)
    what = f"{counted(len(reviews), 'review')} of {counted(len(given.call_ids), 'call')}"
    say(f"{what}. {PUBLISHED}{_known(given.n_known)}")


@review.command("next")
@click.option("--count", type=click.IntRange(1, 1000), default=1, show_default=True, help="How many calls.")
@json_option
@in_workspace
def next_(count: int, as_json: bool, workspace: Workspace) -> None:
    """The call a review would teach most of: flagged by little known rules, unsure, or disputed."""
    from jobs.reviews import next_calls, render_worth

    found = next_calls(workspace, count)
    if as_json:
        print(json.dumps([call.to_json() for call in found]))
    elif found:
        print("\n\n".join(render_worth(call, workspace) for call in found))
    else:
        say("Every call has a verdict.")


@review.command()
@click.option("--by", help="Whose review (default: $USER).")
@in_workspace
def undo(by: str | None, workspace: Workspace) -> None:
    """Take back your last review, or your last import, while it waits for the next run."""
    from callanalytics.errors import UsageError
    from callanalytics.records.text import display_text
    from jobs.reviews.queue import take_back

    reviewer = by or os.environ.get("USER")
    gone = take_back(workspace, reviewer=reviewer)
    if not gone:
        whose = f"of {display_text(reviewer)}" if reviewer else "without a name"
        raise UsageError(
            f"{workspace}: no review {whose} waits for the next run. A published one is overruled by a new "
            "one: review CALL --verdict ..."
        )
    if len(gone) > 1:
        say(f"Taken back: the import of {len(gone)} reviews.")
        return
    about = f", rule {gone[0].rule}" if gone[0].rule else ""
    about += f", segment {gone[0].segment}" if gone[0].segment is not None else ""
    say(f"Taken back: {gone[0].call_id}{about}: {gone[0].verdict}.")


def _known(n_known: int) -> str:
    return f" Given before and kept once: {n_known}." if n_known else ""


@click.group()
def labels() -> None:
    """What reviewers heard, as a corpus to train on."""


@labels.command()
@click.argument("folder", type=folder_type)
@click.option("--consent", is_flag=True, help="Say that these callers' voices may be trained on.")
@click.option("--licence", default="internal use only", show_default=True, help="Written into the manifest.")
@json_option
@with_settings
def export(
    folder: Path, consent: bool, licence: str, as_json: bool, settings: Settings, workspace: Workspace
) -> None:
    """Cut reviewed segments from their recordings: WAV files and a manifest, callers only, speaker-safe."""
    from jobs.reviews.export import export_labels

    made = export_labels(settings, workspace, folder, consent=consent, licence=licence)
    if as_json:
        print(json.dumps(made.to_json()))
        return
    counts = ", ".join(f"{n} {emotion}" for emotion, n in made.emotions.items())
    splits = ", ".join(f"{n} {split}" for split, n in made.splits.items())
    say(f"{made.n_clips} clips of {made.n_speakers} speakers: {counts} ({splits})")
    for reason, n in made.left_out.items():
        say(f"  left out: {n} {reason}")
    command = workspace.command("retrain", "--corpus", str(Path(made.manifest).absolute()))
    say(f"Train on it: {command}")

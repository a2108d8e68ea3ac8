"""Ordinary talk: segments of calls that nobody labelled, from which centred heads learn what calm speech is.

Nearly all that is said in calls is calm, so that each segment counts as weakly neutral
(`ensemble.training.fit_heads`). Nothing is cut out or copied: a clip is a stretch of a channel of its file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from callanalytics.config import Settings
from callanalytics.errors import RecordingError, UsageError
from callanalytics.ingest.recorders.phone_numbers import load_or_make_salt
from callanalytics.records import ChannelLayout, FoundRecording
from callanalytics.workspace import Workspace, make_private_dir
from ensemble.corpora import Clip
from jobs.reviews.export import require_consent, speaker_of, split_of

if TYPE_CHECKING:
    from callanalytics.diarize import SpeechModels

CORPUS = "ordinary"
SHORTEST_S = 1.0
"""Shorter segments say too little of how a voice sounds."""
MOST_OVERLAP = 0.2
"""Share of a segment in which somebody else speaks too."""


def ordinary_talk(
    paths: Sequence[Path],
    settings: Settings,
    workspace: Workspace,
    *,
    consent: bool,
    say: Callable[[str], None] = lambda _: None,
) -> tuple[Clip, ...]:
    """Find the recordings in files and folders, and in each who speaks when.

    Callers who validate or test where they are reviewed (`jobs.reviews.export`) are left out.

    Returns:
        Clips called neutral; `speaker` is one voice of one recording, named as in reviewed segments.

    Raises:
        UsageError: no consent stated, a path does not exist, or there is nothing to learn from.
    """
    if not paths:
        return ()
    require_consent(consent)
    from callanalytics.diarize import SpeechModels
    from callanalytics.ingest import find_recordings

    make_private_dir(workspace.folder)
    salt = load_or_make_salt(workspace.folder / settings.privacy.salt_file)
    now = datetime.now(UTC)
    found = find_recordings(paths, settings, window=None, now=now, salt=salt, name_skipped=False)
    models = SpeechModels.load()
    clips: list[Clip] = []
    left_out = Counter(found.skip_counts) + Counter(failure.reason for failure in found.failures)
    for recording in found.recordings:
        person = speaker_of(recording.facts.caller_hash, recording.recording.call_id, salt)
        if split_of(person) != "train":
            left_out["of callers kept for tests"] += 1
            continue
        try:
            own = list(_segments(recording, f"{CORPUS}/{person}", settings, models))
        except RecordingError as problem:
            left_out[problem.reason] += 1
            continue
        clips += own
        left_out["without speech"] += not own
    n_voices = len({clip.speaker for clip in clips})
    said = f"Ordinary talk: {len(clips)} segments of {n_voices} voices in {found.n_found} recordings"
    if why := ", ".join(f"{n} {reason}" for reason, n in sorted(left_out.items()) if n):
        said += f"; left out: {why}"
    if not clips:
        raise UsageError(f"{said}. Name files or folders of calls that can be learnt from.")
    say(said)
    return tuple(clips)


def _segments(found: FoundRecording, person: str, settings: Settings, models: SpeechModels) -> Iterator[Clip]:
    from callanalytics.audio import decode_recording
    from callanalytics.diarize import diarize
    from callanalytics.diarize.segments import cut_segments

    recording, facts = found.recording, found.facts
    is_pair = len(recording.paths) > 1
    audio = decode_recording(recording.paths, settings.audio, expected_duration_s=facts.expected_duration_s)
    speech = diarize(
        audio.samples,
        audio.sample_rate_hz,
        layout_hint=ChannelLayout.PAIR if is_pair else None,
        stated_roles=facts.stated_roles,
        conversation_share=settings.conversation_share(facts.conversation_share),
        models=models,
    )
    for segment in cut_segments(speech.turns, speech.roles, settings.segments):
        if segment.duration_s >= SHORTEST_S and segment.overlap_share <= MOST_OVERLAP:
            yield Clip(
                path=recording.paths[segment.channel] if is_pair else recording.path,
                corpus=CORPUS,
                emotion="neutral",
                speaker=f"{person}-{segment.speaker}",
                start_s=segment.start_s,
                end_s=segment.end_s,
                channel=None if is_pair or len(audio.samples) == 1 else segment.channel,
            )

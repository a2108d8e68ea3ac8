"""Meanings of every table, view and column: the COMMENTs of the database.

A column name means the same thing wherever it appears, so most meanings are given once: beside a column of
`schema.sql` or of a migration, or here in `VIEW_COLUMNS` where only views have it. `SPECIAL` holds the few
that depend on the table or view. What is said of a table holds for the view of its name.
A test fails when a meaning is missing.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

RELATIONS: dict[str, str] = {
    "base.schema_version": "Migrations applied to this file, one row each",
    "base.definitions": "Fingerprints of the view definitions in this file",
    "base.feature_names": "Names of the entries of base.segments.descriptors, in order",
    "base.runs": "One row per run of the nightly job",
    "base.ensembles": "Ensembles that have labelled calls; one is promoted",
    "base.skipped_files": "What each run saw and passed over, by reason and kind",
    "base.files": "Files whose content hash is known, so that an unchanged file is not read again",
    "base.recordings": "One row per recording, identified by its content",
    "base.calls": "What the recorder said about each call",
    "base.analyses": "One row per call and ensemble: the results for the whole call",
    "base.rule_sets": "Rules of config.toml that judged calls, each set once",
    "base.turns": "Who speaks when, by analysis",
    "base.sounds": "Stretches that are no speech but mean something, by analysis",
    "base.segments": "What the ensemble classified and its vote, one row per segment, by analysis",
    "base.predictions": "Every member's opinion of every segment, by analysis",
    "base.call_measures": "Numbers about whole calls, by analysis",
    "base.escalations": "Rules that a call fulfilled, by analysis",
    "base.call_emotions": "Sums per role and emotion, by analysis; a NULL emotion is what was abstained",
    "base.member_tallies": "How often each member agreed with the vote, by analysis",
    "base.utterances": "What was said, where words are known, by analysis; numbers are masked",
    "base.call_levels": "How loud each side of a call was, by analysis",
    "base.quarantine": "Recordings that could not be analysed, and why",
    "base.reviews": "What people said about calls, rules and segments",
    "base.corrections": "Corrections by people that every later analysis keeps",
    "base.agent_voices": "Voice prints of agents, by call; empty unless [privacy] voice_profiles is on",
    "ensembles": "Ensembles that have labelled calls; only the promoted one is visible in the other views",
    "calls": "What the recorder said about each call, also those not labelled by the promoted ensemble",
    "analyses": "Results for whole calls, promoted ensemble; analysis_key joins the tables in base",
    "call_summary": "One row per call: when, who, how long, how frustrated, flagged and why",
    "rule_sets": "Rules that judged the calls shown, newest first; `rejudge` applies those of config.toml",
    "turns": "Who speaks when",
    "utterances": "What was said, where words are known; numbers are masked",
    "sounds": "Stretches that are no speech but mean something: payment pauses, tones, music",
    "quality_words": "Every word that may be noted about a recording, and what it means; the list may grow",
    "call_quality": "What is noted about each recording and what was found in it, one row per word",
    "role_evidence": "What each fact says about who is agent and who is caller, one row per fact",
    "segments": "The pieces of turns, about 3 s each, that the ensemble classifies",
    "votes": "The ensemble's vote on every segment",
    "segment_emotions": "One row per segment: who, when, which emotion (NULL when abstained), how sure",
    "segment_probabilities": "The ensemble's mean probability of every emotion, one row per segment",
    "predictions": "Every member's opinion of every segment",
    "features": "Acoustic descriptors of every segment as one vector; segment_features has named columns",
    "segment_features": "Acoustic descriptors of every segment, one column each; NULL when unknown",
    "call_measures": "Numbers about whole calls: talk, silence, overtalk, interruptions, emotion shares",
    "call_facts": "One wide row per call, rounded: when, who, how it went, flags, verdict, page, clips",
    "measure_names": "Every measure of call_measures: unit, meaning, whether a rule may use it",
    "frustration_curve": "Frustration of the voice that the score is of, one row per segment of it",
    "escalations": "Rules that a call fulfilled, with reasons in plain words",
    "evidence": "The moments that show why a rule fired",
    "call_emotions": "Seconds of each emotion per call and role, zeros too: add up over any window",
    "emotion_by_hour": "Emotion shares by local hour of the day and role, of calls whose time is known",
    "emotion_by_day": "Emotion shares by local day and role",
    "emotion_by_queue": "Emotion shares by queue and role",
    "emotion_by_queue_hour": "Emotion shares by queue, local hour and role, of calls whose time is known",
    "emotion_by_agent": "How each agent's callers sounded; no ranking, and nothing about the agent",
    "frustrated_callers": "Flagged calls, newest day first and most frustrated first",
    "repeat_callers": "Callers (by salted hash of the number) with more than one call",
    "movers": "What changed per queue: the newest seven days against the seven before",
    "queue_usual": "What is usual in a queue: every measure of whole calls",
    "member_agreement": "How often each member agrees with the vote, by the vote's emotion",
    "outdated_calls": "Calls whose analysis an earlier version made; `run --since DAY` analyses them again",
    "label_drift": "Emotion shares of each day against the 28 days before",
    "drift": "Per day and measure: sound and labels against the 28 days that ended a week before",
    "drift_now": "Per measure: the newest seven days with calls, and whether they suggest retraining",
    "vote_quality": "How often the ensemble abstains and how sure it is, by day and role",
    "abstentions": "Why segments got no emotion, by day and role",
    "coverage": "Per day: calls and minutes seen, analysed, abstained and failed",
    "skipped_files": "What each run saw and passed over, newest run first, by reason and kind",
    "run_health": "One row per run, newest first: how it ended, how much it did, how fast",
    "rule_precision": "How often reviewers agreed with each rule",
    "flag_precision": "How many reviewed calls were worth flagging, of those flagged and of those not",
    "reviewed_segments": "Newest review of each reviewed segment: what was voted, what the person heard",
    "emotion_precision": "How often reviewers agreed with the voted emotion of a segment",
}

VIEW_COLUMNS: dict[str, str] = {
    "content_id": "SHA-256 of the file's content",
    "day": "Local day of the call",
    "weekday": "Local day of the week, 1 = Monday .. 7 = Sunday",
    "hour": "Local hour of the day, 0..23",
    "at_s": "Middle of the voice's segment, seconds into the call",
    "descriptors": "Acoustic descriptors, in the order of base.feature_names; NaN when unknown",
    "probability": "Probability that the member gave its emotion, 0..1",
    "values": "Acoustic descriptors in the order of base.feature_names, NaN when unknown",
    "anger": "Mean probability of anger, 0..1",
    "boredom": "Mean probability of boredom, 0..1",
    "calm": "Mean probability of calm, 0..1",
    "disgust": "Mean probability of disgust, 0..1",
    "fear": "Mean probability of fear, 0..1",
    "happy": "Mean probability of happy, 0..1",
    "neutral": "Mean probability of neutral, 0..1",
    "sad": "Mean probability of sad, 0..1",
    "surprise": "Mean probability of surprise, 0..1",
    "reason": "Why, in short",
    "word": "What is noted, a word of quality_words",
    "meaning": "What the word means, in words",
    "words": "What to hear at this moment",
    "clip": "Name of the clip file, NULL when none was cut",
    "measure": "label_mix, codec_mix, confidence, agreement, abstained_share or level_db",
    "usual": "Mean of the measure over the reference days; NULL without such days",
    "crossed": "The change is beyond the threshold; NULL while nothing is usual yet",
    "n_days": "Days counted, seven at most",
    "n_crossed": "Days of these on which the threshold was crossed",
    "retrain": "The threshold was crossed on three or more of these days: look, and retrain if it stays",
    "share": "Part of the labelled seconds, 0..1",
    "share_low": "Lower end of the 95 % Wilson interval of the share, n = calls",
    "share_high": "Upper end of the 95 % Wilson interval of the share, n = calls",
    "n_calls": "Calls counted; the n of the interval",
    "n_flagged": "Flagged calls",
    "agreed_share": "Part of the segments where the member agrees with the vote, 0..1",
    "agreed_low": "Lower end of the 95 % Wilson interval of the share, n = calls",
    "agreed_high": "Upper end of the 95 % Wilson interval of the share, n = calls",
    "worst_score": "Highest frustration score of these calls",
    "first_at": "Start of the first call",
    "last_at": "Start of the last call",
    "n_calls_30d": "Calls of the 30 days up to the newest day with calls",
    "n_flagged_30d": "Flagged calls of the 30 days up to the newest day with calls",
    "unit": "Unit of the measure: s, dB, semitones, 0..1 or count",
    "in_rules": "A rule of config.toml may use it",
    "rules": "Names of the fulfilled rules, in the order of config.toml",
    "clips": "Clips to hear, files below OUT; empty when none was cut",
    "page": "Page of the call, a file below OUT; it is there while the report shows the call",
    "angry_late_s": "Seconds of the caller's speech labelled anger or disgust in the second half",
    "angry_s": "Seconds of the caller's speech labelled anger or disgust; NULL when the caller is not known",
    "longest_silence_s": "Longest stretch in which nobody speaks, seconds",
    "silence_share": "Part of the call in which nobody speaks, 0..1",
    "overtalk_share": "Part of the call in which both sides speak, 0..1; NULL when a side is not known",
    "caller_talk_share": "Part of the call in which the caller speaks, 0..1; NULL when not known",
    "agent_talk_share": "Part of the call in which the agent speaks, 0..1; NULL when not known",
    "agent_interruptions": "How often the agent talked over the caller; NULL when a side is not known",
    **{
        f"frustration_q{n}": f"Mean frustration in quarter {n} of the call, 0..1, of the voice of the score"
        for n in range(1, 5)
    },
    "first_day": "Local day of the first call",
    "last_day": "Local day of the last call",
    "queues": "Queues of these calls",
    "last_call_id": "Key of the last call",
    "what": "flagged (share of calls) or an emotion (share of the callers' labelled seconds)",
    "share_now": "Share in the newest seven days, 0..1",
    "share_before": "Share in the seven days before, 0..1",
    "change": "New share less usual share",
    "change_low": "Lower end of the 95 % Newcombe interval of the change, n = calls",
    "change_high": "Upper end of the 95 % Newcombe interval of the change, n = calls",
    "clear": "The interval of the change does not contain 0",
    "n_calls_now": "Calls in the newest seven days",
    "n_calls_before": "Calls in the seven days before",
    "since_day": "First day of the newest seven",
    "until_day": "Last day of the newest seven",
    "mean": "Mean over calls",
    "median": "Median over calls",
    "tenth": "10th percentile over calls",
    "ninetieth": "90th percentile over calls",
    "usual_share": "Share over the 28 days before, 0..1; NULL on the first day",
    "distance": "Half the sum of all absolute changes of the day: 0 same, 1 nothing in common",
    "n_usual_calls": "Calls in the 28 days before",
    "abstained_share": "Part of the speech seconds that got no emotion, 0..1",
    "mean_confidence": "Mean confidence of the labelled segments, 0..1",
    "mean_agreement": "Mean agreement of the labelled segments, 0..1",
    "n_seen": "Recordings seen: calls and failed files",
    "n_analysed": "Calls that the promoted ensemble has labelled",
    "n_failed": "Files in quarantine",
    "n_other_ensemble": "Calls that only another ensemble has labelled: analyse them again to see them",
    "minutes_seen": "Minutes of all recordings whose length is known",
    "minutes_analysed": "Minutes of analysed calls",
    "minutes_speech": "Minutes of speech in segments",
    "minutes_labelled": "Minutes of speech that got an emotion",
    "minutes_abstained": "Minutes of speech that got none",
    "minutes_failed": "Minutes of failed files whose length the recorder stated",
    "n_failed_unknown_length": "Failed files whose length nobody knows",
    "quarantined_share": "Part of the attempted recordings that failed, 0..1",
    "wall_s": "Seconds it took",
    "times_real_time": "Seconds of audio analysed per second",
    "state": "How the run ended, in words",
    "precision": "Part of the verdicts, unsure ones left out, that confirm, 0..1",
    "precision_low": "Lower end of the 95 % Wilson interval of the precision",
    "precision_high": "Upper end of the 95 % Wilson interval of the precision",
    "n_confirmed": "Verdicts that confirm",
    "n_rejected": "Verdicts that reject",
    "n_unsure": "Verdicts that are unsure",
    "worth_share": "Part of the reviewed calls, unsure ones left out, that are worth flagging, 0..1",
    "worth_low": "Lower end of the 95 % Wilson interval of the share",
    "worth_high": "Upper end of the 95 % Wilson interval of the share",
    "n_fired": "Calls on which the rule fired",
}

SPECIAL: dict[str, str] = {
    "role_evidence.source": "The fact: sidecar, recorder, name, voice_profile, or inferred from the talk",
    "role_evidence.log_odds": "Log-odds that the roles of the call are right; negative: they are exchanged",
    "role_evidence.words": "The fact and what it says, in words",
    "base.utterances.text": "What is said, words by single spaces, numbers as [number]",
    **dict.fromkeys(
        ("base.utterances.speaker", "utterances.speaker"),
        "Voice within the call; NULL where the words belong to no turn",
    ),
    **dict.fromkeys(
        ("base.utterances.confidence", "utterances.confidence"),
        "Mean confidence of the words, 0..1; NULL when the source gives none",
    ),
    **dict.fromkeys(
        ("base.utterances.source", "utterances.source"),
        "Format of the transcript, or recognised: by the local model",
    ),
    "base.schema_version.version": "Number of the migration",
    "base.schema_version.name": "Name of the migration",
    "base.definitions.name": "What the fingerprint is of",
    "base.feature_names.name": "Name of the descriptor",
    "base.feature_names.position": "Place in base.segments.descriptors, from 0",
    "base.files.path": "File name as the file system's bytes",
    "base.runs.started_at": "When the run started",
    "run_health.started_at": "When the run started",
    "skipped_files.started_at": "When the run started",
    "base.skipped_files.reason": "Closed word: settling, outside_window, ignored, not_included, excluded, "
    "duplicate, pair_part, parallel_copy, vanished, link, output_folder, manifest_lines_unread (lines), "
    "sidecars_unread",
    "base.escalations.reason": "Why the rule fired, in plain words",
    "base.quarantine.reason": "Closed word for what was wrong: not_audio, empty, truncated, ...",
    "base.predictions.emotion": "The member's most probable emotion; NULL when it classified nothing or "
    "was not asked (campplus: of no voice that is surely the agent's)",
    "base.reviews.rule": "Rule that was reviewed; NULL holds for every rule that fired on the call",
    "base.reviews.segment": "Segment that was reviewed; NULL when the review is about the call or a rule",
    **dict.fromkeys(
        ("base.reviews.emotion", "reviewed_segments.emotion"),
        "Emotion that the reviewer heard in the segment; NULL when not said",
    ),
    **dict.fromkeys(
        (f"base.reviews.{column}" for column in ("channel", "start_s", "end_s")),
        "Place of the reviewed segment in the recording; NULL when the review is about the call or a rule",
    ),
    "emotion_precision.emotion": "Emotion that the ensemble voted",
    "call_facts.verdict": "Newest review of the call: worth flagging (confirm) or not (reject), or unsure",
    "call_facts.reasons": "In plain words, one per fulfilled rule; an unflagged call may have some",
    "measure_names.meaning": "What the measure says",
    "movers.change": "share_now less share_before",
    **dict.fromkeys(
        ("drift.value", "drift_now.value"),
        "Of the day: the mean, or for a mix its population stability index against the reference",
    ),
    **dict.fromkeys(
        ("drift.threshold", "drift_now.threshold"), "Change, or for a mix index, that is worth attention"
    ),
    **dict.fromkeys(("drift.change", "drift_now.change"), "value less usual"),
    "drift_now.day": "Newest day with calls",
    "drift.n_usual_calls": "Calls in the 28 days that ended a week before",
    **dict.fromkeys(
        ("base.member_tallies.n_segments", "member_agreement.n_segments"),
        "Segments that the vote gave this emotion and of which the member was asked",
    ),
    "call_summary.n_segments": "Segments of the call",
    **dict.fromkeys(
        (
            f"{place}.frustration_score"
            for place in ("base.analyses", "call_summary", "frustrated_callers", "call_facts")
        ),
        "Frustration at its highest, 0..1, of the most frustrated voice that may be the caller's; NULL when "
        "none was assessed",
    ),
    "base.analyses.frustration_peak_s": "When the frustration is highest, seconds into the call",
    "base.analyses.frustration": "Frustration of the voice that the score is of, smoothed, 0..1",
    "base.call_measures.role": "Side that the measure is of; unknown: all voices of unknown role together, "
    "of frustration the voice that the score is of. NULL for the conversation. A side that is not known has "
    "no rows",
    "call_summary.reasons": "In plain words, one per fulfilled rule; an unflagged call may have some",
}


def relation_comment(relation: str) -> str:
    """Meaning of a table or view.

    Raises:
        KeyError: it has none.
    """
    return RELATIONS.get(relation) or RELATIONS[f"base.{relation}"]


def column_comment(relation: str, column: str, known: Mapping[str, str]) -> str:
    """Meaning of a column; `known` are the meanings of the tables' columns.

    Raises:
        KeyError: it has none.
    """
    for place in (relation, f"base.{relation}"):
        if special := SPECIAL.get(f"{place}.{column}"):
            return special
    return VIEW_COLUMNS.get(column) or known[column]


def table_columns(sql: str) -> dict[str, str]:
    """Column -> meaning: what follows `--` on the line of a column in the SQL that makes tables."""
    return dict(re.findall(r"^(?: {4}|ALTER TABLE \S+ ADD COLUMN )(\w+) .*?  -- (.+)$", sql, re.MULTILINE))

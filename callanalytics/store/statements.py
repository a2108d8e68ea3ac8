"""The longer SQL of the writer. `batch_*` are the frames of `rows.py`, registered during a transaction."""

# Sums of a call per role and emotion: a row for every emotion that the ensemble could have named, and
# one with NULL for what it abstained on, so that views need no outer joins over millions of segments.
# Sums are rounded because threads add in any order: the same call must give the same row.
CALL_EMOTIONS = """
INSERT INTO base.call_emotions BY NAME
WITH spoken AS (
    SELECT analysis_key, role, emotion, count(*) AS n_segments, round(sum(end_s - start_s), 6) AS seconds,
        round(sum(confidence), 6) AS confidence_sum, round(sum(agreement), 6) AS agreement_sum
    FROM batch_segments GROUP BY ALL
),
sides AS (
    SELECT analysis_key, role,
        round(coalesce(sum(seconds) FILTER (WHERE emotion IS NOT NULL), 0), 6) AS labelled_s
    FROM spoken GROUP BY ALL
),
wanted AS (
    SELECT s.*, l.emotion FROM sides s JOIN batch_labels l USING (analysis_key)
    UNION ALL SELECT *, NULL FROM sides
)
SELECT w.analysis_key, w.role, w.emotion, coalesce(s.n_segments, 0) AS n_segments,
    coalesce(s.seconds, 0) AS seconds, w.labelled_s, coalesce(s.confidence_sum, 0) AS confidence_sum,
    coalesce(s.agreement_sum, 0) AS agreement_sum
FROM wanted w LEFT JOIN spoken s
    ON s.analysis_key = w.analysis_key AND s.role = w.role AND s.emotion IS NOT DISTINCT FROM w.emotion
ORDER BY w.analysis_key
"""

MEMBER_TALLIES = """
INSERT INTO base.member_tallies BY NAME
SELECT p.analysis_key, p.member, s.emotion, count(*) AS n_segments,
    count(*) FILTER (WHERE p.emotion = s.emotion) AS n_agreed
FROM batch_predictions p JOIN batch_segments s USING (analysis_key, segment)
WHERE s.emotion IS NOT NULL GROUP BY ALL ORDER BY p.analysis_key
"""

# What an interrupted run (killed, or ended by a signal) tried is tried by the next one for the first time.
CALL_LEVELS = """
INSERT INTO base.call_levels BY NAME
SELECT analysis_key, role, round(sum(end_s - start_s), 6) AS seconds,
    round(sum((end_s - start_s) * level_db) / sum(end_s - start_s), 4) AS level_db
FROM (
    SELECT *, descriptors[(SELECT any_value(position) + 1 FROM base.feature_names
        WHERE name = 'loudness_db')] AS level_db
    FROM batch_segments
)
WHERE isfinite(level_db) GROUP BY ALL ORDER BY analysis_key
"""

QUARANTINE = """
INSERT OR REPLACE INTO base.quarantine BY NAME
SELECT f.* EXCLUDE zone, f.started_at AT TIME ZONE f.zone AS started_local, $1 AS run_id,
    CASE WHEN q.recording_id IS DISTINCT FROM f.recording_id THEN 1
        WHEN coalesce(r.exit_code, 128) >= 128 THEN q.attempts
        ELSE q.attempts + 1 END AS attempts,
    CASE WHEN q.recording_id = f.recording_id THEN q.first_seen_at ELSE now() END AS first_seen_at,
    now() AS last_seen_at
FROM batch_failures f LEFT JOIN base.quarantine q USING (path) LEFT JOIN base.runs r ON r.run_id = q.run_id
"""

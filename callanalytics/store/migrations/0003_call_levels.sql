-- How loud each side of a call was, so that a change of level is seen without reading every descriptor.

CREATE TABLE base.call_levels (
    analysis_key INTEGER NOT NULL,
    role role NOT NULL,
    seconds DOUBLE NOT NULL,
    level_db DOUBLE NOT NULL  -- Mean loudness of the speech, dB below full scale
);

INSERT INTO base.call_levels
SELECT s.analysis_key, s.role, round(sum(s.end_s - s.start_s), 6),
    round(sum((s.end_s - s.start_s) * h.level_db) / sum(s.end_s - s.start_s), 4)
FROM base.segments s JOIN (
    SELECT analysis_key, segment, "values"[(SELECT any_value(position) + 1 FROM base.feature_names
        WHERE name = 'loudness_db')] AS level_db
    FROM base.features
) h USING (analysis_key, segment)
WHERE isfinite(h.level_db) GROUP BY ALL ORDER BY s.analysis_key;

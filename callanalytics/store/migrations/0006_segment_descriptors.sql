-- The descriptors of a segment lie in its row: a table of their own had to be joined row by row.

CREATE TABLE base.described AS
SELECT s.*, f."values" AS descriptors
FROM base.segments s LEFT JOIN base.features f USING (analysis_key, segment) ORDER BY analysis_key, segment;
DROP TABLE base.features;
DROP TABLE base.segments;
ALTER TABLE base.described RENAME TO segments;
ALTER TABLE base.segments ALTER analysis_key SET NOT NULL;
ALTER TABLE base.segments ALTER segment SET NOT NULL;
ALTER TABLE base.segments ALTER speaker SET NOT NULL;
ALTER TABLE base.segments ALTER role SET NOT NULL;
ALTER TABLE base.segments ALTER channel SET NOT NULL;
ALTER TABLE base.segments ALTER start_s SET NOT NULL;
ALTER TABLE base.segments ALTER end_s SET NOT NULL;
ALTER TABLE base.segments ALTER overlap_share SET NOT NULL;
ALTER TABLE base.segments ALTER tie_broken SET NOT NULL;
ALTER TABLE base.segments ALTER probabilities SET NOT NULL;

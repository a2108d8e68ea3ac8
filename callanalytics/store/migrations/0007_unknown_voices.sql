-- The score of a call in which no voice that may be the caller's was assessed is NULL, and so is a measure of a
-- side that is not known: both were 0 before. A score may be of a voice that may be the caller's.

ALTER TABLE base.analyses ALTER frustration_score DROP NOT NULL;
ALTER TABLE base.analyses ADD COLUMN frustration_voice VARCHAR;  -- Speaker that the score is of, who may be the caller; NULL when it is the caller's or there is no score

CREATE TABLE base.callers_assessed AS
SELECT DISTINCT analysis_key FROM base.segments
WHERE role = 'caller'
    AND coalesce(abstain_reason, '') NOT IN ('too_short', 'not_speech', 'overtalk', 'role_excluded');
CREATE TABLE base.sides_known AS SELECT DISTINCT analysis_key, role FROM base.turns;

UPDATE base.analyses SET frustration_score = NULL, frustration_peak_s = NULL, frustration_at_s = [], frustration = []
WHERE analysis_key NOT IN (FROM base.callers_assessed);
DELETE FROM base.call_measures WHERE name IN ('frustration', 'frustration_peak', 'frustration_peak_s')
    AND analysis_key NOT IN (FROM base.callers_assessed);
DELETE FROM base.call_measures WHERE role IS NOT NULL
    AND (analysis_key, role) NOT IN (FROM base.sides_known);
DELETE FROM base.call_measures
WHERE name IN ('overtalk_s', 'overtalk_share', 'interruptions', 'interruptions_s')
    AND analysis_key NOT IN (
        SELECT analysis_key FROM base.sides_known WHERE role IN ('agent', 'caller')
        GROUP BY analysis_key HAVING count(*) = 2
    );
DROP TABLE base.callers_assessed;
DROP TABLE base.sides_known;

-- The score of a call in which no voice may be the caller's is NULL, and so is a measure of a side that is not
-- known: both were 0 before. A score may be of a voice of unknown role.

ALTER TABLE base.analyses ALTER frustration_score DROP NOT NULL;
ALTER TABLE base.analyses ADD COLUMN frustration_voice VARCHAR;  -- Voice of unknown role that the score is of; NULL when it is the caller's or there is no score

UPDATE base.analyses SET frustration_score = NULL WHERE len(frustration_at_s) = 0;
DELETE FROM base.call_measures m WHERE m.role IS NOT NULL
    AND NOT EXISTS (FROM base.turns t WHERE t.analysis_key = m.analysis_key AND t.role = m.role);
DELETE FROM base.call_measures m WHERE m.name IN ('overtalk_s', 'overtalk_share', 'interruptions', 'interruptions_s')
    AND NOT (EXISTS (FROM base.turns t WHERE t.analysis_key = m.analysis_key AND t.role = 'agent')
        AND EXISTS (FROM base.turns t WHERE t.analysis_key = m.analysis_key AND t.role = 'caller'));

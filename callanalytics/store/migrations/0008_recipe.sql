-- Which recipe made an analysis, so that a later night finds out what it must analyse again.

ALTER TABLE base.analyses ADD COLUMN recipe INTEGER DEFAULT 1;  -- Version of the analysis; earlier ones than today's are done again

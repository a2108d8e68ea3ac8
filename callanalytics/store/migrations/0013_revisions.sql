-- Names what an analysis and its rows are now, so that publishing finds what changed without reading it.

ALTER TABLE base.analyses ADD COLUMN revision UUID;  -- Changes with every change of any row of this analysis
UPDATE base.analyses SET revision = uuid();

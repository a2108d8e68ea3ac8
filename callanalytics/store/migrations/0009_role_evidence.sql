-- What every fact says about who is agent and who is caller; empty for calls analysed before.

ALTER TABLE base.analyses ADD COLUMN role_evidence STRUCT(source VARCHAR, log_odds DOUBLE, words VARCHAR)[] DEFAULT [];  -- What each fact says of the roles: its source, log-odds that they are right (negative: exchanged), words

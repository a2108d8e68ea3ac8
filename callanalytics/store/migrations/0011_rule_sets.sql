-- The rules that an analysis was judged by, so that a change of config.toml is seen and can be applied; and what
-- the votes were weighed by, which the frustration curve takes out again.

CREATE TABLE base.rule_sets (
    rules_id VARCHAR PRIMARY KEY,  -- Fingerprint of the rules that judged the call; NULL when they were not noted
    rules JSON NOT NULL,  -- Tables [frustration] and [[rule]] of config.toml
    first_used_at TIMESTAMPTZ NOT NULL  -- When these rules first judged a call here
);
ALTER TABLE base.analyses ADD COLUMN rules_id VARCHAR;
ALTER TABLE base.analyses ADD COLUMN neutral_share DOUBLE;  -- [emotion] neutral_share that the votes were weighed by; NULL when it was not noted

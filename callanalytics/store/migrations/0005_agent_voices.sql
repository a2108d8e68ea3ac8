-- Voice prints of agents, one row for each call in which it was known who the agent is.
--
-- One row per call, not one running mean: a call analysed again replaces its own part, and a call that is
-- purged, or whose sides a person exchanged, takes its part away.

CREATE TABLE base.agent_voices (
    call_id VARCHAR PRIMARY KEY,
    recorder VARCHAR NOT NULL,
    agent VARCHAR NOT NULL,  -- Agent whose profile this belongs to: agent_id, else agent_name
    voice FLOAT[192] NOT NULL,  -- Voice print of the agent in this call, unit length (CAM++)
    role_source role_source NOT NULL,
    run_id INTEGER NOT NULL,
    learned_at TIMESTAMPTZ NOT NULL  -- When the voice was learned
);

-- The tables, as of version 1. Never edited after a release: later changes are migrations/NNNN_name.sql.
--
-- Tables live in the schema `base`; people and reports use the views in `main` (views.sql), which carry
-- the same nouns, add call_id and path, and show the promoted ensemble only. What each column means is in
-- comments.py. Everything derived from a call hangs on `analysis_key`, a small integer that grows with
-- every analysis: rows arrive sorted by it, so one call is found by block ranges without an index.
-- The vote is stored with its segment (one row each): at ten million segments the join would cost more
-- than every question asked of it.

CREATE SCHEMA base;

CREATE TYPE emotion AS ENUM
    ('anger', 'boredom', 'calm', 'disgust', 'fear', 'happy', 'neutral', 'sad', 'surprise');
CREATE TYPE role AS ENUM ('agent', 'caller', 'unknown');
CREATE TYPE direction AS ENUM ('inbound', 'outbound', 'internal', 'unknown');
CREATE TYPE time_source AS ENUM ('sidecar', 'manifest', 'name', 'file_time');
CREATE TYPE channel_layout AS ENUM ('stereo', 'pair', 'fake_stereo', 'one_sided', 'mono');
CREATE TYPE role_source AS ENUM
    ('correction', 'sidecar', 'recorder', 'name', 'voice_profile', 'inferred', 'none');
CREATE TYPE sound AS ENUM ('masked', 'tone', 'music');
CREATE TYPE period AS ENUM ('call', 'q1', 'q2', 'q3', 'q4', 'first_half', 'second_half');
CREATE TYPE verdict AS ENUM ('right', 'wrong', 'unsure');

CREATE TABLE base.schema_version (
    version INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL,
    applied_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE base.definitions (
    name VARCHAR PRIMARY KEY,
    sha256 VARCHAR NOT NULL
);

CREATE TABLE base.feature_names (
    position INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL
);

CREATE TABLE base.runs (
    run_id INTEGER PRIMARY KEY,
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,
    since_at TIMESTAMPTZ NOT NULL,
    until_at TIMESTAMPTZ NOT NULL,
    ensemble_id VARCHAR NOT NULL,
    version VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    pid INTEGER NOT NULL,
    settings JSON,
    n_found INTEGER,
    n_new INTEGER,
    n_done INTEGER,
    n_skipped INTEGER,
    n_quarantined INTEGER,
    audio_s DOUBLE,
    exit_code INTEGER
);

CREATE TABLE base.ensembles (
    ensemble_id VARCHAR PRIMARY KEY,
    labels emotion[] NOT NULL,
    members VARCHAR[] NOT NULL,
    card JSON NOT NULL,
    registered_at TIMESTAMPTZ NOT NULL,
    promoted BOOLEAN NOT NULL,
    promoted_at TIMESTAMPTZ
);

CREATE TABLE base.files (
    path BLOB PRIMARY KEY,
    n_bytes BIGINT NOT NULL,
    mtime_ns BIGINT NOT NULL,
    recording_id VARCHAR NOT NULL
);

CREATE TABLE base.recordings (
    recording_id VARCHAR PRIMARY KEY,
    call_id VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    paths VARCHAR[] NOT NULL,
    n_bytes BIGINT NOT NULL,
    modified_at TIMESTAMPTZ NOT NULL,
    container VARCHAR NOT NULL,
    codec VARCHAR NOT NULL,
    native_rate_hz INTEGER NOT NULL,
    n_channels UTINYINT NOT NULL,
    duration_s DOUBLE NOT NULL,
    clipped_share FLOAT NOT NULL
);

CREATE TABLE base.calls (
    call_id VARCHAR PRIMARY KEY,
    recording_id VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    started_at_source time_source NOT NULL,
    zone VARCHAR NOT NULL,
    started_local TIMESTAMP NOT NULL,
    duration_s DOUBLE NOT NULL,
    expected_duration_s DOUBLE,
    answered_s DOUBLE,
    hold_s DOUBLE,
    direction direction NOT NULL,
    agent_id VARCHAR,
    agent_name VARCHAR,
    team VARCHAR,
    queue VARCHAR,
    campaign VARCHAR,
    caller_hash VARCHAR,
    external_id VARCHAR,
    disposition VARCHAR,
    recorder VARCHAR NOT NULL,
    recorder_confidence FLOAT NOT NULL,
    fact_sources MAP(VARCHAR, VARCHAR) NOT NULL
);

CREATE TABLE base.analyses (
    analysis_key INTEGER PRIMARY KEY,
    call_id VARCHAR NOT NULL,
    recording_id VARCHAR NOT NULL,
    ensemble_id VARCHAR NOT NULL,
    run_id INTEGER NOT NULL,
    analysed_at TIMESTAMPTZ NOT NULL,
    channel_layout channel_layout NOT NULL,
    role_source role_source NOT NULL,
    role_confidence FLOAT NOT NULL,
    quality VARCHAR[] NOT NULL,
    n_segments INTEGER NOT NULL,
    n_labelled INTEGER NOT NULL,
    segments_s DOUBLE NOT NULL,
    labelled_s DOUBLE NOT NULL,
    frustration_score FLOAT NOT NULL,
    frustration_peak_s DOUBLE,
    flagged BOOLEAN NOT NULL,
    reasons VARCHAR[] NOT NULL,
    frustration_at_s FLOAT[] NOT NULL,
    frustration FLOAT[] NOT NULL,
    stage_wall_s MAP(VARCHAR, DOUBLE) NOT NULL
);

CREATE TABLE base.turns (
    analysis_key INTEGER NOT NULL,
    turn INTEGER NOT NULL,
    speaker VARCHAR NOT NULL,
    role role NOT NULL,
    channel UTINYINT NOT NULL,
    start_s DOUBLE NOT NULL,
    end_s DOUBLE NOT NULL
);

CREATE TABLE base.sounds (
    analysis_key INTEGER NOT NULL,
    kind sound NOT NULL,
    channel UTINYINT NOT NULL,
    start_s DOUBLE NOT NULL,
    end_s DOUBLE NOT NULL
);

CREATE TABLE base.segments (
    analysis_key INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    speaker VARCHAR NOT NULL,
    role role NOT NULL,
    channel UTINYINT NOT NULL,
    start_s DOUBLE NOT NULL,
    end_s DOUBLE NOT NULL,
    overlap_share FLOAT NOT NULL,
    emotion emotion,
    top_emotion emotion,
    confidence FLOAT,
    agreement FLOAT,
    tie_broken BOOLEAN NOT NULL,
    abstain_reason VARCHAR,
    probabilities FLOAT[9] NOT NULL
);

CREATE TABLE base.predictions (
    analysis_key INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    member VARCHAR NOT NULL,
    emotion emotion,
    probabilities FLOAT[9] NOT NULL
);

-- The length of `values` follows base.feature_names; store/schema.py puts it in.
CREATE TABLE base.features (
    analysis_key INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    values FLOAT[{n_features}] NOT NULL
);

CREATE TABLE base.call_measures (
    analysis_key INTEGER NOT NULL,
    name VARCHAR NOT NULL,
    role role,
    period period NOT NULL,
    value DOUBLE
);

CREATE TABLE base.escalations (
    analysis_key INTEGER NOT NULL,
    position INTEGER NOT NULL,
    rule VARCHAR NOT NULL,
    weight DOUBLE NOT NULL,
    value DOUBLE NOT NULL,
    threshold DOUBLE NOT NULL,
    reason VARCHAR NOT NULL,
    evidence STRUCT(start_s DOUBLE, end_s DOUBLE, words VARCHAR, clip VARCHAR)[] NOT NULL
);

-- Sums per call that the trend views add up, written in the same transaction as the segments: one row per
-- role that spoke and label of the ensemble (also labels that nobody got), and one with NULL for abstained.
CREATE TABLE base.call_emotions (
    analysis_key INTEGER NOT NULL,
    role role NOT NULL,
    emotion emotion,
    n_segments INTEGER NOT NULL,
    seconds DOUBLE NOT NULL,
    labelled_s DOUBLE NOT NULL,
    confidence_sum DOUBLE NOT NULL,
    agreement_sum DOUBLE NOT NULL
);

CREATE TABLE base.member_tallies (
    analysis_key INTEGER NOT NULL,
    member VARCHAR NOT NULL,
    emotion emotion NOT NULL,
    n_segments INTEGER NOT NULL,
    n_agreed INTEGER NOT NULL
);

CREATE TABLE base.quarantine (
    path VARCHAR PRIMARY KEY,
    stage VARCHAR NOT NULL,
    reason VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    detail VARCHAR NOT NULL,
    recording_id VARCHAR NOT NULL,
    n_bytes BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    started_at_source time_source NOT NULL,
    started_local TIMESTAMP NOT NULL,
    queue VARCHAR,
    expected_duration_s DOUBLE,
    first_seen_at TIMESTAMPTZ NOT NULL,
    last_seen_at TIMESTAMPTZ NOT NULL,
    run_id INTEGER NOT NULL
);

CREATE TABLE base.reviews (
    review_id INTEGER PRIMARY KEY,
    call_id VARCHAR NOT NULL,
    rule VARCHAR,
    verdict verdict NOT NULL,
    reviewer VARCHAR,
    note VARCHAR,
    reviewed_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE base.corrections (
    call_id VARCHAR PRIMARY KEY,
    swap_roles BOOLEAN NOT NULL,
    corrected_by VARCHAR,
    note VARCHAR,
    corrected_at TIMESTAMPTZ NOT NULL
);

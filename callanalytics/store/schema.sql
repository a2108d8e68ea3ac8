-- The tables, as of version 1. Never edited after a release: later changes are migrations/NNNN_name.sql.
--
-- Tables live in the schema `base`; people and reports use the views in `main` (views.sql), which carry
-- the same nouns, add call_id and path, and show the promoted ensemble only. Everything derived from a call
-- hangs on `analysis_key`, a small integer that grows with every analysis: rows arrive sorted by it, so one
-- call is found by block ranges without an index.
--
-- What follows `--` on the line of a column becomes its COMMENT wherever a column has that name; comments.py
-- has the exceptions, and what tables and views are. The vote is stored with its segment (one row each): at ten million segments the join would cost more
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
    applied_at TIMESTAMPTZ NOT NULL  -- When the migration was applied
);

CREATE TABLE base.definitions (
    name VARCHAR PRIMARY KEY,
    sha256 VARCHAR NOT NULL  -- Fingerprint of the definitions
);

CREATE TABLE base.feature_names (
    position INTEGER PRIMARY KEY,
    name VARCHAR NOT NULL
);

CREATE TABLE base.runs (
    run_id INTEGER PRIMARY KEY,  -- Number of the run that wrote this
    started_at TIMESTAMPTZ NOT NULL,
    ended_at TIMESTAMPTZ,  -- When the run ended; NULL when it did not
    since_at TIMESTAMPTZ NOT NULL,  -- Start of the window
    until_at TIMESTAMPTZ NOT NULL,  -- End of the window (exclusive)
    ensemble_id VARCHAR NOT NULL,
    version VARCHAR NOT NULL,  -- Version of callanalytics
    host VARCHAR NOT NULL,  -- Computer that it ran on
    pid INTEGER NOT NULL,  -- Process that did it
    settings JSON,  -- What it ran with: {"recipe": version of the analysis}
    n_found INTEGER,  -- Recordings found in the window
    n_new INTEGER,  -- Recordings it set out to analyse or to list as unreadable
    n_done INTEGER,  -- Calls analysed
    n_skipped INTEGER,  -- Recordings that were done before or given up
    n_quarantined INTEGER,  -- Recordings that failed
    audio_s DOUBLE,  -- Seconds of audio analysed
    exit_code INTEGER  -- What the run ended with; 0 is all done, 3 is some files failed
);

CREATE TABLE base.ensembles (
    ensemble_id VARCHAR PRIMARY KEY,  -- Fingerprint of the ensemble
    labels emotion[] NOT NULL,  -- Emotions that the ensemble knows
    members VARCHAR[] NOT NULL,  -- Members of the ensemble
    card JSON NOT NULL,  -- The ensemble's card: training data, licence, measured quality
    registered_at TIMESTAMPTZ NOT NULL,  -- When the ensemble was first used here
    promoted BOOLEAN NOT NULL,  -- This ensemble's results are what the views show
    promoted_at TIMESTAMPTZ  -- When it was promoted
);

CREATE TABLE base.files (
    path BLOB PRIMARY KEY,
    n_bytes BIGINT NOT NULL,  -- Size of the file or files in bytes
    mtime_ns BIGINT NOT NULL,  -- Modification time of the file in nanoseconds
    recording_id VARCHAR NOT NULL  -- SHA-256 of the content; of a pair, of its two files' hashes
);

CREATE TABLE base.recordings (
    recording_id VARCHAR PRIMARY KEY,
    call_id VARCHAR NOT NULL,  -- Key of the call: the first 16 hex digits of the recording's hash
    path VARCHAR NOT NULL,  -- First (usually only) file; unprintable characters are written out
    paths VARCHAR[] NOT NULL,  -- All files of the recording; unprintable characters are written out
    n_bytes BIGINT NOT NULL,
    modified_at TIMESTAMPTZ NOT NULL,  -- When the file was last modified
    container VARCHAR NOT NULL,  -- File format, as the decoder names it
    codec VARCHAR NOT NULL,  -- Audio codec, as the decoder names it
    native_rate_hz INTEGER NOT NULL,  -- Sampling rate of the file
    n_channels UTINYINT NOT NULL,  -- Audio channels, 1 or 2
    duration_s DOUBLE NOT NULL,  -- Length of the decoded sound in seconds
    clipped_share FLOAT NOT NULL  -- Part of the samples at full scale, 0..1
);

CREATE TABLE base.calls (
    call_id VARCHAR PRIMARY KEY,
    recording_id VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,  -- Start of the call, UTC instant
    started_at_source time_source NOT NULL,  -- Where the start was read; file_time is the least trustworthy
    zone VARCHAR NOT NULL,  -- IANA time zone that the call's local time was read in
    started_local TIMESTAMP NOT NULL,  -- Start of the call on the clock of its zone
    duration_s DOUBLE NOT NULL,
    expected_duration_s DOUBLE,  -- Length that the recorder stated, less the ringing where it said so, seconds
    answered_s DOUBLE,  -- Seconds into the recording when the agent answered
    hold_s DOUBLE,  -- Seconds on hold that the recorder stated
    direction direction NOT NULL,  -- Which way the call went, seen from the call centre
    agent_id VARCHAR,  -- Agent, as the recorder names them
    agent_name VARCHAR,  -- Agent's name, when the recorder gives one
    team VARCHAR,  -- Agent's team
    queue VARCHAR,  -- Queue, as the recorder names it
    campaign VARCHAR,  -- Campaign, as the recorder names it
    caller_hash VARCHAR,  -- Salted hash of the caller's number; the number itself is never stored
    external_id VARCHAR,  -- The recorder's own id of the call
    disposition VARCHAR,  -- How the call ended, as the recorder says
    recorder VARCHAR NOT NULL,  -- Recorder profile that the file matched, none when nothing did
    recorder_confidence FLOAT NOT NULL,  -- How sure the match of the recorder profile is, 0..1
    fact_sources MAP(VARCHAR, VARCHAR) NOT NULL  -- For each known fact, where it was read
);

CREATE TABLE base.analyses (
    analysis_key INTEGER PRIMARY KEY,  -- Small integer per call and ensemble, joins the tables in base
    call_id VARCHAR NOT NULL,
    recording_id VARCHAR NOT NULL,
    ensemble_id VARCHAR NOT NULL,
    run_id INTEGER NOT NULL,
    analysed_at TIMESTAMPTZ NOT NULL,  -- When the analysis was written
    channel_layout channel_layout NOT NULL,  -- How the voices lie in the audio
    role_source role_source NOT NULL,  -- How agent and caller were told apart
    role_confidence FLOAT NOT NULL,  -- How sure the roles are, 0..1
    quality VARCHAR[] NOT NULL,  -- What is noted about the recording, such as noisy: an open list, see quality_words
    n_segments INTEGER NOT NULL,  -- Segments counted
    n_labelled INTEGER NOT NULL,  -- Segments that got an emotion
    segments_s DOUBLE NOT NULL,  -- Seconds of speech in segments
    labelled_s DOUBLE NOT NULL,  -- Seconds of speech that got an emotion
    frustration_score FLOAT NOT NULL,  -- Frustration of the caller over the call, 0..1: the highest point of the curve
    frustration_peak_s DOUBLE,  -- When the caller's frustration is highest, seconds into the call
    flagged BOOLEAN NOT NULL,  -- The fulfilled rules weigh enough to look at this call
    reasons VARCHAR[] NOT NULL,  -- In plain words, one per fulfilled rule
    frustration_at_s FLOAT[] NOT NULL,  -- Times of the frustration curve, seconds into the call
    frustration FLOAT[] NOT NULL,  -- Frustration of the caller, smoothed, 0..1
    stage_wall_s MAP(VARCHAR, DOUBLE) NOT NULL  -- Seconds of work per stage of the analysis
);

CREATE TABLE base.turns (
    analysis_key INTEGER NOT NULL,
    turn INTEGER NOT NULL,  -- Number of the turn within the call, from 0, by start
    speaker VARCHAR NOT NULL,  -- Voice within the call: speaker_0, speaker_1, ...
    role role NOT NULL,  -- Who speaks: agent, caller or unknown
    channel UTINYINT NOT NULL,  -- Channel to hear it on, from 0
    start_s DOUBLE NOT NULL,  -- Start, seconds into the recording
    end_s DOUBLE NOT NULL  -- End (exclusive), seconds into the recording
);

CREATE TABLE base.sounds (
    analysis_key INTEGER NOT NULL,
    kind sound NOT NULL,  -- What it is: masked (payment pause), tone or music
    channel UTINYINT NOT NULL,
    start_s DOUBLE NOT NULL,
    end_s DOUBLE NOT NULL
);

CREATE TABLE base.segments (
    analysis_key INTEGER NOT NULL,
    segment INTEGER NOT NULL,  -- Number of the segment within the call, from 0, by start
    speaker VARCHAR NOT NULL,
    role role NOT NULL,
    channel UTINYINT NOT NULL,
    start_s DOUBLE NOT NULL,
    end_s DOUBLE NOT NULL,
    overlap_share FLOAT NOT NULL,  -- Part of the segment during which somebody else spoke too, 0..1
    emotion emotion,  -- Emotion; NULL when the ensemble abstained
    top_emotion emotion,  -- Most probable emotion, also when the ensemble abstained
    confidence FLOAT,  -- Calibrated mean probability of the emotion, 0..1
    agreement FLOAT,  -- Part of the members asked that voted for the emotion, 0..1
    tie_broken BOOLEAN NOT NULL,  -- The members tied and the mean probability decided
    abstain_reason VARCHAR,  -- Why there is no emotion; NULL when there is one
    probabilities FLOAT[9] NOT NULL  -- Probability of each emotion, in the order of the type emotion
);

CREATE TABLE base.predictions (
    analysis_key INTEGER NOT NULL,
    segment INTEGER NOT NULL,
    member VARCHAR NOT NULL,  -- Member of the ensemble
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
    name VARCHAR NOT NULL,  -- Name of the measure, with its unit
    role role,
    period period NOT NULL,  -- Part of the call: call, a quarter (q1..q4) or a half
    value DOUBLE  -- The measured number, in the unit that the name says
);

CREATE TABLE base.escalations (
    analysis_key INTEGER NOT NULL,
    position INTEGER NOT NULL,  -- Order within the list, from 0
    rule VARCHAR NOT NULL,  -- Name of the rule in config.toml
    weight DOUBLE NOT NULL,  -- Weight of the rule; the sum of weights flags a call
    value DOUBLE NOT NULL,
    threshold DOUBLE NOT NULL,  -- The rule fires at this value or more
    reason VARCHAR NOT NULL,
    evidence STRUCT(start_s DOUBLE, end_s DOUBLE, words VARCHAR, clip VARCHAR)[] NOT NULL  -- Moments to hear: start and end in seconds, words, clip file if one was cut
);

-- Sums per call that the trend views add up, written in the same transaction as the segments: one row per
-- role that spoke and label of the ensemble (also labels that nobody got), and one with NULL for abstained.
CREATE TABLE base.call_emotions (
    analysis_key INTEGER NOT NULL,
    role role NOT NULL,
    emotion emotion,
    n_segments INTEGER NOT NULL,
    seconds DOUBLE NOT NULL,  -- Seconds of speech
    labelled_s DOUBLE NOT NULL,
    confidence_sum DOUBLE NOT NULL,  -- Sum of the segments' confidence
    agreement_sum DOUBLE NOT NULL  -- Sum of the segments' agreement
);

CREATE TABLE base.member_tallies (
    analysis_key INTEGER NOT NULL,
    member VARCHAR NOT NULL,
    emotion emotion NOT NULL,
    n_segments INTEGER NOT NULL,
    n_agreed INTEGER NOT NULL  -- Segments where the member's own emotion is the vote's
);

CREATE TABLE base.quarantine (
    path VARCHAR PRIMARY KEY,
    stage VARCHAR NOT NULL,  -- Where it failed: read, decode, analyze or write
    reason VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,  -- How often it was tried
    detail VARCHAR NOT NULL,  -- What was wrong, in a sentence
    recording_id VARCHAR NOT NULL,
    n_bytes BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL,
    started_at_source time_source NOT NULL,
    started_local TIMESTAMP NOT NULL,
    queue VARCHAR,
    expected_duration_s DOUBLE,
    first_seen_at TIMESTAMPTZ NOT NULL,  -- When it first failed
    last_seen_at TIMESTAMPTZ NOT NULL,  -- When it last failed
    run_id INTEGER NOT NULL
);

CREATE TABLE base.reviews (
    review_id INTEGER PRIMARY KEY,  -- Number of the review
    call_id VARCHAR NOT NULL,
    rule VARCHAR,
    verdict verdict NOT NULL,  -- Of a call or rule: worth flagging (confirm) or not (reject); of a segment: right vote or not
    reviewer VARCHAR,  -- Who reviewed
    note VARCHAR,  -- Words of the person
    reviewed_at TIMESTAMPTZ NOT NULL  -- When it was reviewed
);

CREATE TABLE base.corrections (
    call_id VARCHAR PRIMARY KEY,
    swap_roles BOOLEAN NOT NULL,  -- Agent and caller are the other way round than the analysis found
    corrected_by VARCHAR,  -- Who corrected
    note VARCHAR,
    corrected_at TIMESTAMPTZ NOT NULL  -- When it was corrected
);

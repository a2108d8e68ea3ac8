-- What a run saw and passed over, so that an empty night can say what was there.

CREATE TABLE base.skipped_files (
    run_id INTEGER NOT NULL,
    reason VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,  -- Extension of the files; empty where there is none or it does not matter
    n_files BIGINT NOT NULL,  -- Files counted
    earliest_at TIMESTAMPTZ,  -- First of the times that explain the reason; NULL where no time does
    latest_at TIMESTAMPTZ  -- Last of the times that explain the reason; NULL where no time does
);

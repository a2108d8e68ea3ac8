-- Verdicts in the words of the command line, and reviews of single segments.
--
-- The place in the recording (channel, start_s, end_s) and the emotion that was voted are kept with the
-- review: they stay true when the call is segmented or voted on anew.

CREATE TABLE base.reviews_before AS FROM base.reviews;
DROP TABLE base.reviews;
DROP TYPE verdict;
CREATE TYPE verdict AS ENUM ('confirm', 'reject', 'unsure');

CREATE TABLE base.reviews (
    review_id INTEGER PRIMARY KEY,
    call_id VARCHAR NOT NULL,
    rule VARCHAR,
    segment INTEGER,
    verdict verdict NOT NULL,
    emotion emotion,
    voted emotion,  -- Emotion that the ensemble had voted when this was reviewed; NULL when it had abstained
    channel UTINYINT,
    start_s DOUBLE,
    end_s DOUBLE,
    reviewer VARCHAR,
    note VARCHAR,
    reviewed_at TIMESTAMPTZ NOT NULL
);

INSERT INTO base.reviews BY NAME
SELECT * REPLACE (
    CASE verdict::VARCHAR WHEN 'right' THEN 'confirm' WHEN 'wrong' THEN 'reject' ELSE 'unsure' END AS verdict
) FROM base.reviews_before;
DROP TABLE base.reviews_before;

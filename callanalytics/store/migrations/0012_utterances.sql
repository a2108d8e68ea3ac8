-- What was said, where words are known: transcripts of others, or recognised here. Numbers in it are masked.

CREATE TABLE base.utterances (
    analysis_key INTEGER NOT NULL,
    utterance INTEGER NOT NULL,  -- Number of the utterance within the call, from 0, by start
    speaker VARCHAR,
    role role NOT NULL,
    start_s DOUBLE NOT NULL,
    end_s DOUBLE NOT NULL,
    text VARCHAR NOT NULL,  -- What is said, words by single spaces, numbers as [number]
    confidence FLOAT,
    source VARCHAR NOT NULL,
    word_start_s FLOAT[] NOT NULL,  -- Start of each word, seconds into the recording; empty when unknown
    word_confidence FLOAT[] NOT NULL  -- Confidence of each word, 0..1; empty when unknown
);
ALTER TABLE base.analyses ADD COLUMN words_whole BOOLEAN DEFAULT false;  -- The words of the whole call are known; false: of moments, or of nothing
ALTER TABLE base.analyses ADD COLUMN words_note VARCHAR;  -- Closed word for why there are no words, or not all; NULL where nothing is wrong or none were wanted

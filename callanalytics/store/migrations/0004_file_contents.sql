-- The hash of each file, so that the two files of a pair need not be read every night either. Before, only
-- single files were remembered, whose hash is the recording's id.

ALTER TABLE base.files ADD COLUMN content_id VARCHAR;
UPDATE base.files SET content_id = recording_id;

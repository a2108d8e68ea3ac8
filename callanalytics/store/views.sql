-- What people and reports ask. Replaced as a whole whenever this text changes; comments are in comments.py.
-- Only the promoted ensemble is visible here: every view that reads results starts from `analyses`.

-- 95 % Wilson interval of a share. n is the number of calls, not of segments: segments of one call are
-- alike, and calling them independent would make every interval far too narrow.
-- Source: E. B. Wilson, JASA 22 (1927) 209-212.
CREATE MACRO wilson_low(share, n) AS CASE WHEN n > 0 THEN greatest(0.0,
    (share + 3.8414588 / (2 * n)
        - 1.9599640 * sqrt((greatest(share * (1 - share), 0.0) + 3.8414588 / (4 * n)) / n))
    / (1 + 3.8414588 / n)) END;
CREATE MACRO wilson_high(share, n) AS CASE WHEN n > 0 THEN least(1.0,
    (share + 3.8414588 / (2 * n)
        + 1.9599640 * sqrt((greatest(share * (1 - share), 0.0) + 3.8414588 / (4 * n)) / n))
    / (1 + 3.8414588 / n)) END;
-- Interval of a difference of two shares. Source: R. G. Newcombe, Statist. Med. 17 (1998) 873-890, method 10.
CREATE MACRO change_low(now, n_now, before, n_before) AS now - before
    - sqrt((now - wilson_low(now, n_now)) ** 2 + (wilson_high(before, n_before) - before) ** 2);
CREATE MACRO change_high(now, n_now, before, n_before) AS now - before
    + sqrt((wilson_high(now, n_now) - now) ** 2 + (before - wilson_low(before, n_before)) ** 2);

-- Zeros all along are how the analysis says that nobody classified a segment; in SQL that is NULL.
CREATE MACRO classified(probabilities) AS CASE WHEN list_sum(probabilities) > 0 THEN probabilities END;

-- Words of a text as `callanalytics search` compares them: small letters without accents, no punctuation.
CREATE MACRO search_terms(said) AS regexp_extract_all(strip_accents(lower(said)), '[\p{L}\p{N}]+');

-- Nouns ------------------------------------------------------------------------------------------------

CREATE VIEW runs AS FROM base.runs;
CREATE VIEW recordings AS FROM base.recordings;
CREATE VIEW ensembles AS FROM base.ensembles;
CREATE VIEW quarantine AS FROM base.quarantine;
CREATE VIEW reviews AS FROM base.reviews;
CREATE VIEW corrections AS FROM base.corrections;
CREATE VIEW schema_version AS FROM base.schema_version;

CREATE VIEW calls AS
SELECT *, started_local::DATE AS day, hour(started_local)::UTINYINT AS hour,
    isodow(started_local)::UTINYINT AS weekday
FROM base.calls;

CREATE VIEW analyses AS
SELECT a.* EXCLUDE (revision) FROM base.analyses a JOIN base.ensembles e USING (ensemble_id) WHERE e.promoted;

CREATE VIEW call_summary AS
SELECT
    c.call_id, c.path, c.started_at, c.started_at_source, c.duration_s, a.channel_layout, a.role_source,
    c.agent_id, c.queue, a.n_segments, a.frustration_score, a.flagged, a.reasons,
    c.started_local, c.zone, c.day, c.weekday, c.hour, c.direction, c.agent_name, c.team, c.campaign,
    c.caller_hash, c.external_id, c.disposition, c.answered_s, c.hold_s,
    a.role_confidence, a.quality, a.n_labelled, a.segments_s, a.labelled_s, a.frustration_peak_s,
    c.recorder, c.recorder_confidence, c.fact_sources, c.recording_id, a.ensemble_id, a.run_id,
    a.analysed_at, a.analysis_key, a.frustration_voice, a.role_evidence, a.rules_id
FROM calls c JOIN analyses a USING (call_id);

CREATE VIEW rule_sets AS
SELECT r.rules_id, count(*) AS n_calls, count(*) FILTER (a.flagged) AS n_flagged, min(c.day) AS first_day,
    max(c.day) AS last_day, r.first_used_at, r.rules
FROM analyses a JOIN calls c USING (call_id) LEFT JOIN base.rule_sets r USING (rules_id)
GROUP BY ALL ORDER BY r.first_used_at DESC NULLS LAST;

CREATE VIEW role_evidence AS
SELECT call_id, fact.source, fact.log_odds, fact.words
FROM (SELECT call_id, unnest(role_evidence) AS fact FROM analyses);

CREATE VIEW turns AS
SELECT a.call_id, t.turn, t.speaker, t.role, t.channel, t.start_s, t.end_s
FROM base.turns t JOIN analyses a USING (analysis_key);

CREATE VIEW utterances AS
SELECT a.call_id, u.utterance, u.role, u.start_s, u.end_s, u.text, u.confidence, u.source, u.speaker,
    u.word_start_s, u.word_confidence
FROM base.utterances u JOIN analyses a USING (analysis_key);

CREATE VIEW sounds AS
SELECT a.call_id, s.kind, s.channel, s.start_s, s.end_s
FROM base.sounds s JOIN analyses a USING (analysis_key);

CREATE VIEW quality_words AS FROM (VALUES
    {quality_words}
) AS words(word, meaning);

CREATE VIEW call_quality AS
SELECT q.call_id, q.word, w.meaning
FROM (SELECT call_id, unnest(quality) AS word FROM analyses) q LEFT JOIN quality_words w USING (word);

CREATE VIEW segments AS
SELECT a.call_id, s.segment, s.role, s.speaker, s.channel, s.start_s, s.end_s, s.overlap_share
FROM base.segments s JOIN analyses a USING (analysis_key);

CREATE VIEW votes AS
SELECT a.call_id, s.segment, s.emotion, s.top_emotion, s.confidence, s.agreement, s.tie_broken,
    s.abstain_reason, classified(s.probabilities) AS probabilities
FROM base.segments s JOIN analyses a USING (analysis_key);

CREATE VIEW segment_emotions AS
SELECT
    c.call_id, c.path, s.role, s.speaker, s.start_s, s.end_s, s.emotion, s.confidence, s.agreement,
    s.abstain_reason,
    s.segment, s.channel, s.overlap_share, s.top_emotion, s.tie_broken,
    c.started_at, c.day, c.queue, c.agent_id
FROM base.segments s JOIN analyses a USING (analysis_key) JOIN calls c USING (call_id);

CREATE VIEW segment_probabilities AS
SELECT call_id, segment, role, speaker, start_s, end_s, emotion, p[1] AS anger, p[2] AS boredom, p[3] AS calm,
    p[4] AS disgust, p[5] AS fear, p[6] AS happy, p[7] AS neutral, p[8] AS sad, p[9] AS surprise
FROM (SELECT a.call_id, s.*, classified(s.probabilities) AS p
    FROM base.segments s JOIN analyses a USING (analysis_key));

CREATE VIEW predictions AS
SELECT a.call_id, p.segment, p.member, p.emotion, p.probabilities[enum_code(p.emotion) + 1] AS probability,
    classified(p.probabilities) AS probabilities
FROM base.predictions p JOIN analyses a USING (analysis_key);

CREATE VIEW features AS
SELECT a.call_id, s.segment, s.descriptors AS "values"
FROM base.segments s JOIN analyses a USING (analysis_key);

-- NaN is how the analysis says "cannot be known" (pitch of an unvoiced segment); in SQL that is NULL.
CREATE VIEW segment_features AS
SELECT a.call_id, s.segment, s.role, s.speaker, s.start_s, s.end_s, s.emotion,
    {feature_columns},
    c.day, c.queue, c.agent_id
FROM base.segments s JOIN analyses a USING (analysis_key) JOIN calls c USING (call_id);

CREATE VIEW call_measures AS
SELECT a.call_id, m.name, m.role, m.period, m.value
FROM base.call_measures m JOIN analyses a USING (analysis_key);

CREATE VIEW measure_names AS
SELECT name, CASE WHEN suffix(name, '_s') THEN 's' WHEN suffix(name, '_db') THEN 'dB'
    WHEN suffix(name, '_st') THEN 'semitones' WHEN suffix(name, '_share') OR prefix(name, 'frustration') THEN '0..1'
    ELSE 'count' END AS unit, meaning, in_rules
FROM (VALUES
    {measures}
) AS measures(name, meaning, in_rules);

CREATE VIEW frustration_curve AS
SELECT call_id, unnest(frustration_at_s) AS at_s, unnest(frustration) AS frustration FROM analyses;

CREATE VIEW escalations AS
SELECT a.call_id, e.position, e.rule, e.weight, e.value, e.threshold, e.reason, e.evidence, a.flagged
FROM base.escalations e JOIN analyses a USING (analysis_key);

CREATE VIEW evidence AS
SELECT call_id, rule, moment.start_s, moment.end_s, moment.words, moment.clip
FROM (SELECT a.call_id, e.rule, unnest(e.evidence) AS moment
    FROM base.escalations e JOIN analyses a USING (analysis_key));

-- The newest review of the whole call counts.
CREATE VIEW call_facts AS
WITH measured AS (
    SELECT m.analysis_key,
        max(m.value) FILTER (m.name = 'angry_s' AND m.role = 'caller' AND m.period = 'call') AS angry_s,
        max(m.value) FILTER (m.name = 'angry_s' AND m.role = 'caller' AND m.period = 'second_half') AS angry_late_s,
        max(m.value) FILTER (m.name = 'longest_silence_s') AS longest_silence_s,
        max(m.value) FILTER (m.name = 'silence_share') AS silence_share,
        max(m.value) FILTER (m.name = 'overtalk_share') AS overtalk_share,
        max(m.value) FILTER (m.name = 'talk_share' AND m.role = 'caller' AND m.period = 'call') AS caller_talk_share,
        max(m.value) FILTER (m.name = 'talk_share' AND m.role = 'agent' AND m.period = 'call') AS agent_talk_share,
        max(m.value) FILTER (m.name = 'interruptions' AND m.role = 'agent' AND m.period = 'call')
            AS agent_interruptions,
        max(m.value) FILTER (m.name = 'frustration' AND m.role = a.scored_role AND m.period = 'q1') AS frustration_q1,
        max(m.value) FILTER (m.name = 'frustration' AND m.role = a.scored_role AND m.period = 'q2') AS frustration_q2,
        max(m.value) FILTER (m.name = 'frustration' AND m.role = a.scored_role AND m.period = 'q3') AS frustration_q3,
        max(m.value) FILTER (m.name = 'frustration' AND m.role = a.scored_role AND m.period = 'q4') AS frustration_q4
    FROM base.call_measures m JOIN (
        SELECT analysis_key, CASE WHEN frustration_voice IS NULL THEN 'caller' ELSE 'unknown' END::role AS scored_role
        FROM analyses) a USING (analysis_key)
    WHERE m.name IN ('angry_s', 'longest_silence_s', 'silence_share', 'overtalk_share', 'talk_share',
        'interruptions', 'frustration')
    GROUP BY m.analysis_key
),
fired AS (
    SELECT analysis_key, list(rule ORDER BY position) AS rules,
        list_distinct(flatten(list([moment.clip FOR moment IN evidence IF moment.clip IS NOT NULL]))) AS clip_names
    FROM base.escalations GROUP BY analysis_key
),
judged AS (
    SELECT call_id, verdict, reviewer FROM base.reviews WHERE segment IS NULL AND rule IS NULL
    QUALIFY row_number() OVER (PARTITION BY call_id ORDER BY reviewed_at DESC, review_id DESC) = 1
)
SELECT c.call_id, c.day, c.weekday, c.hour, c.started_local, c.queue, c.direction, c.agent_id, c.caller_hash,
    round(c.duration_s, 1) AS duration_s, c.flagged, coalesce(f.rules, []) AS rules, c.reasons,
    round(c.frustration_score::DOUBLE, 3) AS frustration_score,
    round(m.frustration_q1, 3) AS frustration_q1, round(m.frustration_q2, 3) AS frustration_q2,
    round(m.frustration_q3, 3) AS frustration_q3, round(m.frustration_q4, 3) AS frustration_q4,
    round(m.angry_s, 1) AS angry_s, round(m.angry_late_s, 1) AS angry_late_s,
    round(m.longest_silence_s, 1) AS longest_silence_s, round(m.silence_share, 3) AS silence_share,
    round(m.overtalk_share, 3) AS overtalk_share, round(m.caller_talk_share, 3) AS caller_talk_share,
    round(m.agent_talk_share, 3) AS agent_talk_share, m.agent_interruptions::INTEGER AS agent_interruptions,
    j.verdict, j.reviewer, 'reports/calls/' || c.call_id || '.html' AS page,
    ['reports/clips/' || c.call_id || '/' || name FOR name IN list_sort(coalesce(f.clip_names, []))] AS clips, c.path
FROM call_summary c LEFT JOIN measured m USING (analysis_key) LEFT JOIN fired f USING (analysis_key)
LEFT JOIN judged j USING (call_id);

-- Emotions over calls, hours, days, queues and agents -----------------------------------------------------

CREATE VIEW call_emotions AS
SELECT c.call_id, c.day, c.weekday, c.hour, c.queue, c.agent_id, e.role, e.emotion, e.n_segments, e.seconds,
    e.labelled_s, c.started_at_source
FROM base.call_emotions e JOIN analyses a USING (analysis_key) JOIN calls c USING (call_id)
WHERE e.emotion IS NOT NULL AND e.labelled_s > 0;

-- Without calls that are dated by their file: its hour is when it was copied. As in the report.
CREATE VIEW emotion_by_hour AS
SELECT hour, role, emotion, share, wilson_low(share, n_calls) AS share_low,
    wilson_high(share, n_calls) AS share_high, n_calls, n_segments, seconds, labelled_s
FROM (SELECT hour, role, emotion, sum(seconds) / sum(labelled_s) AS share, count(*) AS n_calls,
    sum(n_segments)::BIGINT AS n_segments, sum(seconds) AS seconds, sum(labelled_s) AS labelled_s
    FROM call_emotions WHERE started_at_source <> 'file_time' GROUP BY ALL)
ORDER BY hour, role, emotion;

CREATE VIEW emotion_by_day AS
SELECT day, role, emotion, share, wilson_low(share, n_calls) AS share_low,
    wilson_high(share, n_calls) AS share_high, n_calls, n_segments, seconds, labelled_s
FROM (SELECT day, role, emotion, sum(seconds) / sum(labelled_s) AS share, count(*) AS n_calls,
    sum(n_segments)::BIGINT AS n_segments, sum(seconds) AS seconds, sum(labelled_s) AS labelled_s
    FROM call_emotions GROUP BY ALL)
ORDER BY day, role, emotion;

CREATE VIEW emotion_by_queue AS
SELECT queue, role, emotion, share, wilson_low(share, n_calls) AS share_low,
    wilson_high(share, n_calls) AS share_high, n_calls, n_segments, seconds, labelled_s
FROM (SELECT queue, role, emotion, sum(seconds) / sum(labelled_s) AS share, count(*) AS n_calls,
    sum(n_segments)::BIGINT AS n_segments, sum(seconds) AS seconds, sum(labelled_s) AS labelled_s
    FROM call_emotions GROUP BY ALL)
ORDER BY queue, role, emotion;

-- Without calls that are dated by their file, as in emotion_by_hour.
CREATE VIEW emotion_by_queue_hour AS
SELECT queue, hour, role, emotion, round(share, 4) AS share, round(wilson_low(share, n_calls), 4) AS share_low,
    round(wilson_high(share, n_calls), 4) AS share_high, n_calls, n_segments, round(seconds, 1) AS seconds,
    round(labelled_s, 1) AS labelled_s
FROM (SELECT queue, hour, role, emotion, sum(seconds) / sum(labelled_s) AS share, count(*) AS n_calls,
    sum(n_segments)::BIGINT AS n_segments, sum(seconds) AS seconds, sum(labelled_s) AS labelled_s
    FROM call_emotions WHERE started_at_source <> 'file_time' GROUP BY ALL)
ORDER BY queue, hour, role, emotion;

-- How the *callers* of an agent sounded, in order of name: agents are never ranked by emotion, and what an
-- agent sounds like is not in this view.
CREATE VIEW emotion_by_agent AS
SELECT agent_id, emotion, share, wilson_low(share, n_calls) AS share_low,
    wilson_high(share, n_calls) AS share_high, n_calls, n_segments, seconds, labelled_s
FROM (SELECT agent_id, emotion, sum(seconds) / sum(labelled_s) AS share, count(*) AS n_calls,
    sum(n_segments)::BIGINT AS n_segments, sum(seconds) AS seconds, sum(labelled_s) AS labelled_s
    FROM call_emotions WHERE role = 'caller' AND agent_id IS NOT NULL GROUP BY ALL)
ORDER BY agent_id, emotion;

CREATE VIEW frustrated_callers AS
SELECT day, call_id, started_local, queue, agent_id, agent_name, round(duration_s, 1) AS duration_s,
    round(frustration_score::DOUBLE, 4) AS frustration_score, round(frustration_peak_s, 1) AS frustration_peak_s,
    reasons, caller_hash, path
FROM call_summary WHERE flagged
ORDER BY day DESC, call_summary.frustration_score DESC NULLS LAST, call_id;

CREATE VIEW repeat_callers AS
SELECT caller_hash, count(*) AS n_calls, count(*) FILTER (WHERE flagged) AS n_flagged,
    count(*) FILTER (WHERE is_recent) AS n_calls_30d, count(*) FILTER (WHERE is_recent AND flagged) AS n_flagged_30d,
    round(max(frustration_score)::DOUBLE, 3) AS worst_score, min(started_at) AS first_at, max(started_at) AS last_at,
    list_sort(list(DISTINCT queue)) AS queues, arg_max(call_id, started_at) AS last_call_id
FROM (SELECT *, day > (SELECT max(day) FROM call_summary WHERE day <= current_date + 1) - 30 AS is_recent
    FROM call_summary WHERE caller_hash IS NOT NULL)
GROUP BY caller_hash HAVING count(*) > 1
ORDER BY n_flagged_30d DESC, n_flagged DESC, n_calls DESC, caller_hash;

-- The last seven days that hold calls' newest day, against the seven days before.
CREATE VIEW movers AS
WITH newest AS (SELECT max(day) AS until_day FROM call_summary WHERE day <= current_date + 1),
shares AS (
    SELECT queue, 'flagged' AS what, day, flagged::INTEGER::DOUBLE AS part, 1.0::DOUBLE AS whole
    FROM call_summary
    UNION ALL
    SELECT queue, emotion::VARCHAR, day, seconds, labelled_s FROM call_emotions WHERE role = 'caller'
),
sums AS (
    SELECT queue, what, until_day,
        sum(part) FILTER (WHERE day > until_day - 7) / sum(whole) FILTER (WHERE day > until_day - 7) AS share_now,
        sum(part) FILTER (WHERE day <= until_day - 7) / sum(whole) FILTER (WHERE day <= until_day - 7)
            AS share_before,
        count(*) FILTER (WHERE day > until_day - 7) AS n_calls_now,
        count(*) FILTER (WHERE day <= until_day - 7) AS n_calls_before
    FROM shares, newest WHERE day > until_day - 14 AND day <= until_day GROUP BY ALL
)
SELECT queue, what, share_now, share_before, share_now - share_before AS change,
    change_low(share_now, n_calls_now, share_before, n_calls_before) AS change_low,
    change_high(share_now, n_calls_now, share_before, n_calls_before) AS change_high,
    change_low > 0 OR change_high < 0 AS clear,
    n_calls_now, n_calls_before, until_day - 6 AS since_day, until_day
FROM sums WHERE n_calls_now > 0 AND n_calls_before > 0
ORDER BY abs(change) DESC, queue, what;

CREATE VIEW queue_usual AS
SELECT queue, name, role, n_calls, mean, levels[2] AS median, levels[1] AS tenth, levels[3] AS ninetieth
FROM (SELECT queue, name, role, count(m.value) AS n_calls, avg(m.value) AS mean,
    quantile_cont(m.value, [0.1, 0.5, 0.9]) AS levels
    FROM base.call_measures m JOIN analyses USING (analysis_key) JOIN calls USING (call_id)
    WHERE m.period = 'call' GROUP BY queue, name, role);

-- Calls whose analysis an earlier version of callanalytics made: what it says may be out of date.
CREATE VIEW outdated_calls AS
SELECT c.call_id, c.path, c.started_local, c.day, a.recipe
FROM calls c JOIN analyses a USING (call_id) WHERE a.recipe < {recipe}
ORDER BY c.started_at, c.call_id;

-- Can the numbers be trusted? -----------------------------------------------------------------------------

CREATE VIEW member_agreement AS
SELECT member, emotion, agreed_share, wilson_low(agreed_share, n_calls) AS agreed_low,
    wilson_high(agreed_share, n_calls) AS agreed_high, n_calls, n_segments, n_agreed
FROM (SELECT t.member, t.emotion, sum(t.n_agreed) / sum(t.n_segments) AS agreed_share, count(*) AS n_calls,
    sum(t.n_segments)::BIGINT AS n_segments, sum(t.n_agreed)::BIGINT AS n_agreed
    FROM base.member_tallies t JOIN analyses USING (analysis_key) GROUP BY ALL)
ORDER BY member, emotion;

CREATE VIEW label_drift AS
WITH labelled AS (
    SELECT day, count(*) AS n_calls FROM call_summary WHERE n_labelled > 0 GROUP BY day
),
daily AS (
    SELECT day, emotion, n_calls, seconds, labelled_s
    FROM (SELECT day, emotion, sum(seconds) AS seconds, sum(labelled_s) AS labelled_s
        FROM call_emotions GROUP BY ALL)
    JOIN labelled USING (day)
),
usual AS (
    SELECT d.day, d.emotion, d.seconds / d.labelled_s AS share, d.n_calls,
        sum(p.seconds) / sum(p.labelled_s) AS usual_share, coalesce(sum(p.n_calls), 0)::BIGINT AS n_usual_calls
    FROM daily d LEFT JOIN daily p
        ON p.emotion = d.emotion AND p.day < d.day AND p.day >= d.day - 28
    GROUP BY ALL
)
SELECT day, emotion, share, usual_share, share - usual_share AS change,
    sum(abs(share - usual_share)) OVER (PARTITION BY day) / 2 AS distance, n_calls, n_usual_calls
FROM usual ORDER BY day, emotion;

-- Drift, against the 28 days that ended a week before: without the week between, a change would be usual
-- after a day or two, and never seen to last. A mix (of labels, of codecs) is compared by its population
-- stability index; both mixes are counted in calls, and the day's is pulled towards the reference by the
-- weight of one call, so that a label nobody had on a quiet day is no news. Its threshold is 0.25, a "major
-- shift" (N. Siddiqi, Credit Risk Scorecards, Wiley 2006), or what chance alone exceeds once in a thousand
-- days, if that is more: the index of two samples of one mix is (1/n + 1/m) times a chi-square of k - 1
-- degrees (B. Yurdakul, J. Naranjo, J. Risk Model Validation 14(4), 2020). Means cross at three standard
-- deviations of the reference days (W. A. Shewhart, Economic Control of Quality, 1931), and at no less
-- than 0.03 or 1 dB: a choice, below which no reader of a report would act.

-- 99.9 % point of chi-square. Source: E. B. Wilson, M. M. Hilferty, PNAS 17 (1931) 684-688.
CREATE MACRO chi_square_999(degrees) AS
    CASE WHEN degrees > 0 THEN degrees * (1 - 2 / (9 * degrees) + 3.0902323 * sqrt(2 / (9 * degrees))) ** 3
    ELSE 0.0 END;

CREATE VIEW drift AS
WITH analysed AS (
    SELECT a.analysis_key, c.day, r.codec
    FROM analyses a JOIN calls c USING (call_id) JOIN base.recordings r ON r.recording_id = a.recording_id
),
days AS (
    SELECT day, count(*) AS n_calls, coalesce(sum(count(*)) OVER before, 0)::BIGINT AS n_usual_calls
    FROM analysed GROUP BY day
    WINDOW before AS (ORDER BY day RANGE BETWEEN INTERVAL 34 DAY PRECEDING AND INTERVAL 7 DAY PRECEDING)
),
votes_of_day AS (
    SELECT h.day, e.emotion, sum(e.seconds) AS seconds, sum(e.n_segments) AS n_segments,
        sum(e.confidence_sum) AS confidence_sum, sum(e.agreement_sum) AS agreement_sum
    FROM base.call_emotions e JOIN analysed h USING (analysis_key) GROUP BY ALL
),
found AS (
    SELECT day, 'label_mix' AS measure, emotion::VARCHAR AS part, seconds AS amount
    FROM votes_of_day WHERE emotion IS NOT NULL
    UNION ALL
    SELECT day, 'codec_mix', codec, count(*)::DOUBLE FROM analysed GROUP BY ALL
),
counted AS (
    SELECT k.day, k.measure, k.part, k.n_calls * coalesce(f.amount, 0)
        / nullif(sum(f.amount) OVER (PARTITION BY k.measure, k.day), 0) AS n
    FROM (SELECT day, n_calls, measure, part FROM days, (SELECT DISTINCT measure, part FROM found)) k
    LEFT JOIN found f USING (day, measure, part)
),
windows AS (
    SELECT day, measure, part, n, sum(n) OVER before AS m
    FROM counted
    WINDOW before AS (PARTITION BY measure, part
        ORDER BY day RANGE BETWEEN INTERVAL 34 DAY PRECEDING AND INTERVAL 7 DAY PRECEDING)
),
shares AS (
    SELECT *, (m + 0.5) / (sum(m) OVER whole + 0.5 * count(*) OVER whole) AS q,
        (n + q) / (sum(n) OVER whole + 1) AS p
    FROM windows WHERE n + m > 0
    WINDOW whole AS (PARTITION BY day, measure)
),
mixes AS (
    SELECT day, measure, sum((p - q) * ln(p / q)) AS value,
        greatest(0.25, chi_square_999(count(*) - 1) * (1 / sum(n) + 1 / sum(m))) AS threshold
    FROM shares GROUP BY day, measure HAVING sum(m) > 0
),
means AS (
    SELECT day, 'confidence' AS measure,
        sum(confidence_sum) / nullif(sum(n_segments) FILTER (WHERE emotion IS NOT NULL), 0) AS value
    FROM votes_of_day WHERE emotion IS NOT NULL GROUP BY day
    UNION ALL
    SELECT day, 'agreement', sum(agreement_sum) / nullif(sum(n_segments), 0)
    FROM votes_of_day WHERE emotion IS NOT NULL GROUP BY day
    UNION ALL
    SELECT day, 'abstained_share', coalesce(sum(seconds) FILTER (WHERE emotion IS NULL), 0)
        / nullif(sum(seconds), 0) FROM votes_of_day GROUP BY day
    UNION ALL
    SELECT h.day, 'level_db', sum(l.seconds * l.level_db) / sum(l.seconds)
    FROM base.call_levels l JOIN analysed h USING (analysis_key) GROUP BY h.day
),
compared AS (
    SELECT day, measure, value, avg(value) OVER before AS usual, threshold, true AS is_mix FROM mixes
    WINDOW before AS (PARTITION BY measure
        ORDER BY day RANGE BETWEEN INTERVAL 34 DAY PRECEDING AND INTERVAL 7 DAY PRECEDING)
    UNION ALL
    SELECT day, measure, value, avg(value) OVER before,
        CASE WHEN count(value) OVER before >= 7 THEN greatest(3 * stddev_samp(value) OVER before,
            CASE measure WHEN 'level_db' THEN 1.0 ELSE 0.03 END) END, false
    FROM means WHERE value IS NOT NULL
    WINDOW before AS (PARTITION BY measure
        ORDER BY day RANGE BETWEEN INTERVAL 34 DAY PRECEDING AND INTERVAL 7 DAY PRECEDING)
)
SELECT day, measure, value, usual, value - usual AS change, threshold,
    CASE WHEN is_mix THEN value > threshold ELSE abs(change) > threshold END AS crossed,
    n_calls, n_usual_calls
FROM compared JOIN days USING (day) ORDER BY day, measure;

CREATE VIEW drift_now AS
SELECT measure, max(day) AS day, arg_max(value, day) AS value, arg_max(usual, day) AS usual,
    arg_max(change, day) AS change, arg_max(threshold, day) AS threshold, count(*) AS n_days,
    count(*) FILTER (WHERE crossed) AS n_crossed, n_crossed >= 3 AS retrain
FROM (FROM drift QUALIFY row_number() OVER (PARTITION BY measure ORDER BY day DESC) <= 7)
GROUP BY measure ORDER BY measure;

CREATE VIEW vote_quality AS
SELECT c.day, e.role, sum(e.n_segments)::BIGINT AS n_segments,
    sum(e.seconds) FILTER (WHERE e.emotion IS NULL) / nullif(sum(e.seconds), 0) AS abstained_share,
    sum(e.confidence_sum) FILTER (WHERE e.emotion IS NOT NULL)
        / nullif(sum(e.n_segments) FILTER (WHERE e.emotion IS NOT NULL), 0) AS mean_confidence,
    sum(e.agreement_sum) FILTER (WHERE e.emotion IS NOT NULL)
        / nullif(sum(e.n_segments) FILTER (WHERE e.emotion IS NOT NULL), 0) AS mean_agreement
FROM base.call_emotions e JOIN analyses a USING (analysis_key) JOIN calls c USING (call_id)
GROUP BY ALL ORDER BY ALL;

CREATE VIEW abstentions AS
SELECT c.day, s.role, s.abstain_reason, count(*) AS n_segments, sum(s.end_s - s.start_s) AS seconds
FROM base.segments s JOIN analyses a USING (analysis_key) JOIN calls c USING (call_id)
WHERE s.abstain_reason IS NOT NULL GROUP BY ALL ORDER BY ALL;

CREATE VIEW coverage AS
WITH known AS (
    SELECT c.day, c.duration_s, a.call_id IS NOT NULL AS analysed, a.segments_s, a.labelled_s
    FROM calls c LEFT JOIN analyses a USING (call_id)
),
by_call AS (
    SELECT day, count(*) AS n_calls, count(*) FILTER (WHERE analysed) AS n_analysed,
        sum(duration_s) AS seen_s, sum(duration_s) FILTER (WHERE analysed) AS analysed_s,
        sum(segments_s) AS segments_s, sum(labelled_s) AS labelled_s
    FROM known GROUP BY day
),
by_failure AS (
    SELECT started_local::DATE AS day, count(*) AS n_failed, sum(expected_duration_s) AS failed_s,
        count(*) FILTER (WHERE expected_duration_s IS NULL) AS n_failed_unknown_length
    FROM base.quarantine WHERE recording_id NOT IN (SELECT recording_id FROM base.calls) GROUP BY ALL
)
SELECT day, coalesce(n_calls, 0) + coalesce(n_failed, 0) AS n_seen, coalesce(n_analysed, 0) AS n_analysed,
    coalesce(n_failed, 0) AS n_failed, coalesce(n_calls, 0) - coalesce(n_analysed, 0) AS n_other_ensemble,
    (coalesce(seen_s, 0) + coalesce(failed_s, 0)) / 60 AS minutes_seen,
    coalesce(analysed_s, 0) / 60 AS minutes_analysed, coalesce(segments_s, 0) / 60 AS minutes_speech,
    coalesce(labelled_s, 0) / 60 AS minutes_labelled,
    (coalesce(segments_s, 0) - coalesce(labelled_s, 0)) / 60 AS minutes_abstained,
    coalesce(failed_s, 0) / 60 AS minutes_failed,
    coalesce(n_failed_unknown_length, 0) AS n_failed_unknown_length
FROM by_call FULL JOIN by_failure USING (day) ORDER BY day;

CREATE VIEW run_health AS
SELECT run_id, started_at, ended_at,
    CASE
        WHEN ended_at IS NULL THEN 'unfinished'
        WHEN exit_code IN (0, 4) THEN 'ok'
        WHEN exit_code = 3 THEN 'some files failed'
        WHEN exit_code = 7 THEN 'out of time'
        WHEN exit_code = 8 THEN 'not published'
        WHEN exit_code IN (130, 143) THEN 'interrupted'
        ELSE 'failed'
    END AS state,
    exit_code, n_found, n_new, n_done, n_skipped, n_quarantined,
    n_quarantined / nullif(n_done + n_quarantined, 0) AS quarantined_share,
    audio_s, epoch(ended_at) - epoch(started_at) AS wall_s,
    audio_s / nullif(epoch(ended_at) - epoch(started_at), 0) AS times_real_time,
    since_at, until_at, ensemble_id, version, host
FROM base.runs ORDER BY run_id DESC;

CREATE VIEW skipped_files AS
SELECT run_id, r.started_at, r.since_at, r.until_at, s.reason, s.kind, s.n_files, s.earliest_at, s.latest_at
FROM base.skipped_files s JOIN base.runs r USING (run_id) ORDER BY run_id DESC, n_files DESC, reason, kind;

-- Reviews --------------------------------------------------------------------------------------------------
-- The newest review of the same thing counts. Of a call or rule, confirm means worth flagging; of a segment,
-- that the voted emotion is right.

-- A review names one rule, or none: then it holds for every rule that fired on the call.
CREATE VIEW rule_precision AS
WITH reviewed AS (
    SELECT e.rule, e.call_id, r.verdict
    FROM escalations e LEFT JOIN base.reviews r
        ON r.call_id = e.call_id AND r.segment IS NULL AND (r.rule = e.rule OR r.rule IS NULL)
    QUALIFY row_number() OVER (
        PARTITION BY e.call_id, e.rule ORDER BY r.rule IS NOT NULL DESC, r.reviewed_at DESC, r.review_id DESC
    ) = 1
),
counts AS (
    SELECT rule, count(*) AS n_fired, count(*) FILTER (WHERE verdict = 'confirm') AS n_confirmed,
        count(*) FILTER (WHERE verdict = 'reject') AS n_rejected,
        count(*) FILTER (WHERE verdict = 'unsure') AS n_unsure
    FROM reviewed GROUP BY rule
)
SELECT rule, n_confirmed / nullif(n_confirmed + n_rejected, 0) AS precision,
    wilson_low(precision, n_confirmed + n_rejected) AS precision_low,
    wilson_high(precision, n_confirmed + n_rejected) AS precision_high,
    n_confirmed, n_rejected, n_unsure, n_fired
FROM counts ORDER BY rule;

CREATE VIEW flag_precision AS
WITH reviewed AS (
    SELECT a.flagged, r.verdict FROM analyses a JOIN base.reviews r USING (call_id)
    WHERE r.segment IS NULL AND r.rule IS NULL
    QUALIFY row_number() OVER (PARTITION BY call_id ORDER BY r.reviewed_at DESC, r.review_id DESC) = 1
),
counts AS (
    SELECT flagged, count(*) FILTER (WHERE verdict = 'confirm') AS n_confirmed,
        count(*) FILTER (WHERE verdict = 'reject') AS n_rejected,
        count(*) FILTER (WHERE verdict = 'unsure') AS n_unsure
    FROM reviewed GROUP BY flagged
)
SELECT flagged, n_confirmed / nullif(n_confirmed + n_rejected, 0) AS worth_share,
    wilson_low(worth_share, n_confirmed + n_rejected) AS worth_low,
    wilson_high(worth_share, n_confirmed + n_rejected) AS worth_high, n_confirmed, n_rejected, n_unsure
FROM counts ORDER BY flagged DESC;

CREATE VIEW reviewed_segments AS
SELECT r.call_id, r.segment, r.channel, r.start_s, r.end_s, r.voted, r.verdict, r.emotion, r.reviewer,
    r.note, r.reviewed_at, s.role, s.speaker, c.agent_id, c.caller_hash, c.path, c.recording_id
FROM (FROM base.reviews WHERE segment IS NOT NULL QUALIFY row_number() OVER (
    PARTITION BY call_id, channel, start_s, end_s ORDER BY reviewed_at DESC, review_id DESC) = 1) r
JOIN base.calls c USING (call_id)
LEFT JOIN analyses a ON a.call_id = r.call_id
LEFT JOIN base.segments s ON s.analysis_key = a.analysis_key AND s.segment = r.segment AND s.start_s = r.start_s
ORDER BY r.call_id, r.start_s;

CREATE VIEW emotion_precision AS
WITH counts AS (
    SELECT voted AS emotion, count(*) FILTER (WHERE verdict = 'confirm') AS n_confirmed,
        count(*) FILTER (WHERE verdict = 'reject') AS n_rejected,
        count(*) FILTER (WHERE verdict = 'unsure') AS n_unsure,
        count(DISTINCT call_id) FILTER (WHERE verdict != 'unsure') AS n_calls
    FROM reviewed_segments WHERE voted IS NOT NULL GROUP BY voted
)
SELECT emotion, n_confirmed / nullif(n_confirmed + n_rejected, 0) AS precision,
    wilson_low(precision, n_calls) AS precision_low, wilson_high(precision, n_calls) AS precision_high,
    n_confirmed, n_rejected, n_unsure, n_calls
FROM counts ORDER BY emotion;

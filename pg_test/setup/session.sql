-- Included by tests that connect as several roles: intervals are printed in one style, in all their sessions.
-- The options that pg_test/elsewhere gives to sessions stay.
\set options ''
\getenv options SEGMENTER_SESSION
\set options 'options=''-c intervalstyle=postgres ' :options ''''
\c -reuse-previous=on :options

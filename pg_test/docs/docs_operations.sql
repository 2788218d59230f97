create extension segmenter;
create extension pg_cron;

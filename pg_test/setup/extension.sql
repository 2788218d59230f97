-- The extension as most databases have it.
create extension segmenter;

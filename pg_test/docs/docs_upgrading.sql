create extension segmenter;

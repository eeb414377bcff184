"""What came of a run, a sweep or a run made of runs: tables, pictures, words."""

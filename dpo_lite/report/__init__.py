"""What came of a run, a sweep or the whole road: tables, pictures, words."""

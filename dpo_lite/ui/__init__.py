"""The web page: one file per tab, no training logic, no torch."""

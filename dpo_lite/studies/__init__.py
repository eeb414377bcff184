"""Runs made of runs: a sweep over values, and the whole road of RLHF."""

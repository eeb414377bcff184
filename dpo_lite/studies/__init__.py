"""Runs made of runs: a sweep over values, and RLHF from SFT to DPO."""

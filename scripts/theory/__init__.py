"""The mathematics of DPO on a world small enough to enumerate; docs/theory.md is what it says.

``toy`` is the world and its closed forms, ``learners`` train on it with the project's own
losses, ``identities`` and ``measure`` compare the two, ``pictures`` draws it. ``python -m
scripts.theory`` writes all of it into docs/. Left out on purpose: neural networks, sampling noise
where an expectation can be had, and what needs more than seconds on one CPU core.
"""

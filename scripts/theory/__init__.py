"""The mathematics of DPO on a world small enough to enumerate; docs/theory.md is what it says.

``toy`` is the world and its closed forms, ``proof`` the algebra line by line; ``learners``,
``reward_model`` and ``imitation`` train on it with the project's own losses, ``frontier`` says how
good a policy is for its KL, ``identities`` and ``measure`` compare, ``pictures`` draws it.
``python -m scripts.theory`` writes all of it into docs/. Left out on purpose: neural networks,
sampling noise where an expectation can be had, and what needs more than a minute on one CPU core.
"""

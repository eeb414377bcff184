"""The written corpus behind the embedded model: common misconceptions, told four times to one.

`topics` loads what people wrote (YAML), `voices` holds the two ways of telling, `filler` the rest
of a small language, `corpus` the pre-training text and `preferences` the preference data.
"""

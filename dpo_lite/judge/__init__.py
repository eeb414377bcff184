"""A language model behind an address as a judge of answers (recipe section ``judge``)."""

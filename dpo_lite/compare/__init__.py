"""Several models answer the same prompts from one loaded base; votes on what they said."""

"""One separate process that loads models for the web page, so that the page never imports torch.

It is spoken to in JSON lines (``__main__``), does one task at a time (``tasks``), keeps at most one
model (``model_cache``), and frees it by ending: nothing is freer than a process that is gone.
"""

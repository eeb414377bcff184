"""Publish a run's adapter on the Hugging Face Hub: exactly the adapter, its facts, nothing else.

    account         who is logged in, and where the token may write
    staging         a folder with what goes up, filled from a list of names
    public_recipe   the recipe without this machine's paths
    card            the model card, from the run's facts
    push            upload in one commit, repeat safely, say what went wrong
    while_training  the recipe's hub.push

No file here imports torch. The token comes from ``HF_TOKEN`` or ``hf auth login``; it is no
argument of anything, and never printed or written.
"""

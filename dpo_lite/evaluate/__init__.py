"""What a trained adapter is worth: on held-out data, and as a judge of any responses."""

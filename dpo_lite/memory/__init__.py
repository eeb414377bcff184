"""What a run needs of a card, what to give up for it, and what it took."""

"""What a task is, in one place each."""

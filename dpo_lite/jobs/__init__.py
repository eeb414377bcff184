"""What is done with a recipe: look at its data, plan it, check it, train it."""

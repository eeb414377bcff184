from dpo_lite.recipe.tables import keys_table

print(keys_table(), end="")

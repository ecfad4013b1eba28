"""Examples: the data module, the data sets, and where their files come from."""

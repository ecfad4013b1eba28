"""A training: the contract of models and trainers, the recipe, the plan, the record."""

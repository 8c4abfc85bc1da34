"""Training: recipes, the Lightning module and data, parameter groups, schedules, checkpoints."""

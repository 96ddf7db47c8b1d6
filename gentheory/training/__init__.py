"""Training of stacks of models, and their evaluation."""

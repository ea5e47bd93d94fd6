"""Validation: clips by the pipeline of ltx-generate, and the loss of samples held back."""

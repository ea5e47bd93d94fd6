"""Clips and captions to what training reads."""

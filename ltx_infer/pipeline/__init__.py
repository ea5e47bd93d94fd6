"""Pipelines as data, what they are given, and running them."""

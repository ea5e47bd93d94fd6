"""Captions for clips that have none, by a vision-language model that looks at a few frames."""

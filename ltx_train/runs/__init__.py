"""What surrounds the steps of a run: checks before it, its memory, its files, taking it up again."""

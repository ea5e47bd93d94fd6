"""What surrounds the steps of a run: checks, its memory, its files, taking it up again."""

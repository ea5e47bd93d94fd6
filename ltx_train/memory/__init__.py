"""What a run takes of the memory, known before anything large is read."""

"""Low-rank adapters: files, layers, and putting the one on the other."""

"""What ltx-precompute wrote, as batches to train on."""

"""What a run of ltx-precompute is given: clips, captions and what belongs to them."""

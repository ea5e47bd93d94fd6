"""Noise levels, integrators, guidance, conditions, and the loop of one stage."""

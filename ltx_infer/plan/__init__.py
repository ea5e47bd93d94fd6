"""What a run takes of the memory, told before it begins, and how it is made to fit."""

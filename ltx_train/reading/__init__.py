"""Files to what the encoders take, read ahead of them in processes of its own."""

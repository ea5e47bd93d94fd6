"""Pictures, video and sound: read as people have them, written as players want them."""

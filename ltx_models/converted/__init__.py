"""A checkpoint as a folder with one network in each of its folders, quantised or not."""

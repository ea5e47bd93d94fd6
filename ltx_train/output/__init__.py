"""What a run leaves for others: its adapter, a page on the hub, a record at Weights & Biases."""

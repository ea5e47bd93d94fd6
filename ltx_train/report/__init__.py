"""Pages that a person opens in a browser, offline: one file each, with all that it shows."""

"""The in-process market of the embedded network."""

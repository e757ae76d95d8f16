"""What is seen of a run: journals, the live table. Reads events, changes nothing."""

"""A worker: takes runs from a queue, does them in a sandbox, and tells how they ended."""

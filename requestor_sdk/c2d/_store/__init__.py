"""Where the provider keeps jobs, runs, nonces and workers: in memory, in SQLite, in PostgreSQL."""

"""A provider of compute-to-data jobs: catalogue, job store, queue of runs, Ocean over HTTP."""

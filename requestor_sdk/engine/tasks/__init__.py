"""Batches of tasks: a queue, and a cluster of workers that the lifecycle's own machinery runs.

There is no second lifecycle here. A worker is a service whose ``run()`` pumps the user's function;
loss, restarts, budget and journal are the engine's.
"""

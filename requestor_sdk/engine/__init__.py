"""Performs the lifecycle over the ports. Knows no HTTP, no daemon, no sandbox."""

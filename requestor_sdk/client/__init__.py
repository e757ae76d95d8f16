"""Puts the parts together: the engine, a network, a runtime, a journal."""

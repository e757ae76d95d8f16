"""Sandboxes for payloads, and the store of their images."""

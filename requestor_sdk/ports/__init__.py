"""The seams: small protocols that the engine and the outside world meet at."""

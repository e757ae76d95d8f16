"""The provider's HTTP face: both generations of the Ocean protocol on one FastAPI app."""

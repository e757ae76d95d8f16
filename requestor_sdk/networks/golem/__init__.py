"""A Golem network as a requestor sees it, through its daemon."""

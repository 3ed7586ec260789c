"""tradelib beside its peers: the same work on the same numbers, one process each, and the results compared."""

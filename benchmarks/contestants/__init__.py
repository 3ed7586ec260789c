"""One module per library; the peers' own environments import them, so they know nothing of tradelib or each other."""

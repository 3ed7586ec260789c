"""tradelib: from notebook to live order, with nothing lost in between."""

__version__ = "0.1.0"

"""How a bundle acts: its account, stepped bar by bar, and the orders that follow; for a runner and for its replay."""

__all__: list[str] = []

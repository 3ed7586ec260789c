"""How a bundle acts: its account, stepped bar by bar, and the orders that follow; for a runner and for its replay."""

from tradelib._lazy import attach

__all__ = ["Fill", "Instruction", "Mirror", "Plan", "Retelling"]

_HOMES = {
    "Fill": "instructions",
    "Instruction": "instructions",
    "Mirror": "mirror",
    "Plan": "instructions",
    "Retelling": "retelling",
}

__getattr__, __dir__ = attach(__name__, _HOMES)

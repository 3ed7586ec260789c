"""What a plan consists of: see `tradelib.bundle.trading.instructions`, where replay finds it too."""

from tradelib.bundle.trading.instructions import Deviation, Ending, Fill, Instruction, Kind, News, Plan, Refusal, Side

__all__ = ["Deviation", "Ending", "Fill", "Instruction", "Kind", "News", "Plan", "Refusal", "Side"]

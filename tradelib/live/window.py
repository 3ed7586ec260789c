"""The runner's bounded history is the bundle's window: see `tradelib.bundle.window`, where replay finds it too."""

from tradelib.bundle.window import HistoryWindow, WindowedRule, window_of, windowed

__all__ = ["HistoryWindow", "WindowedRule", "window_of", "windowed"]

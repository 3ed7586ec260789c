"""How an interactive figure looks: no ground of its own, and greys that read on a light and on a dark page."""

from __future__ import annotations

from typing import Any

__all__ = ["FONT", "INK", "themed"]

INK = "#7a7a7a"
"""Contrast of 4.3 to 1 with white, and of 4.3 to 1 with the #131416 of a dark page (WCAG 2.2, relative luminance)."""
FONT = {"family": "system-ui, sans-serif", "size": 12, "color": INK}
_CLEAR = "rgba(0,0,0,0)"
_AXIS = {
    "gridcolor": "rgba(128,128,128,.22)",
    "linecolor": "rgba(128,128,128,.45)",
    "zerolinecolor": "rgba(128,128,128,.45)",
}
_HOVER = {"bgcolor": "#f6f6f6", "bordercolor": "#b0b0b0", "font": {"color": "#222222"}, "namelength": -1}


def themed(figure: Any) -> Any:
    """`figure` (plotly), changed: it takes the colour of the page that it stands on."""
    figure.update_layout(
        template="plotly_white", paper_bgcolor=_CLEAR, plot_bgcolor=_CLEAR, font=FONT, hoverlabel=_HOVER
    )
    return figure.update_xaxes(**_AXIS).update_yaxes(**_AXIS)

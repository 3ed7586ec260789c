"""How an order is worked: at once, or in children over time, by a plan that knows no clock and touches no network.

A `Schedule` is a parameter object; a `Ticket` is one parent order under it. The ticket is told what became of its
children and what the market is, and answers with children to place and to cancel. It holds nothing that the journal
does not, so a restarted process goes on where the last one stopped.
"""

from tradelib._lazy import attach

__all__ = [
    "POV",
    "TWAP",
    "VWAP",
    "Cancel",
    "Child",
    "Iceberg",
    "MarketOrder",
    "MarketRules",
    "MarketView",
    "MarketableLimit",
    "Place",
    "PostOnly",
    "Schedule",
    "Standing",
    "Ticket",
    "instruction_body",
    "intent_of",
    "is_child",
    "open_tickets",
    "parent_leg",
    "schedule_from_config",
    "tickets",
    "volume_profile",
]

_HOMES = {
    "Cancel": "children",
    "Child": "children",
    "Iceberg": "resting",
    "MarketOrder": "schedules",
    "MarketRules": "children",
    "MarketView": "children",
    "MarketableLimit": "schedules",
    "POV": "slicing",
    "Place": "children",
    "PostOnly": "resting",
    "Schedule": "schedules",
    "Standing": "children",
    "TWAP": "slicing",
    "Ticket": "ticket",
    "VWAP": "slicing",
    "instruction_body": "records",
    "intent_of": "records",
    "is_child": "records",
    "open_tickets": "records",
    "parent_leg": "records",
    "schedule_from_config": "ticket",
    "tickets": "records",
    "volume_profile": "slicing",
}

__getattr__, __dir__ = attach(__name__, _HOMES)

"""Git's filter for notebooks, set up by `make hooks`: reads one on the standard input, writes it cleaned.

The same cleaning as `nbdev_clean` does on files (its own filter mode writes nothing with the locked execnb). What
cannot be read stops the `git add`; nothing is ever stored half.
"""

from __future__ import annotations

import json
import sys

from execnb.nbio import nb2str
from nbdev.clean import _nbdev_clean


def cleaned(text: str) -> str:
    """A notebook without execution counts and foreign metadata, in nbdev's own layout."""
    notebook = json.loads(text)
    _nbdev_clean(notebook)
    return nb2str(notebook)


if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # type: ignore[union-attr]
    sys.stdout.write(cleaned(sys.stdin.buffer.read().decode("utf-8")))

"""`python -m pipelines.run STAGE [KEY]`: run one stage of `dvc.yaml`, with one clear line when it cannot.

Exit codes: 0 done, 1 refused (bad input, failed check), 130 interrupted.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

from pipelines import params
from pipelines.artifacts import root
from tradelib.errors import TradelibError

__all__ = ["main", "stages"]


def stages() -> list[str]:
    """Names of all stages, alphabetical."""
    return sorted(path.stem for path in (Path(__file__).parent / "stages").glob("[a-z]*.py"))


def main(arguments: list[str]) -> int:
    """Run the stage named by the command line; the exit code."""
    if not arguments or arguments[0] not in stages():
        print(f"usage: python -m pipelines.run STAGE [KEY]; stages: {', '.join(stages())}", file=sys.stderr)
        return 2
    try:
        stage = import_module(f"pipelines.stages.{arguments[0]}")
        stage.main(params.load(root(), stage.SECTIONS), *arguments[1:])
    except TradelibError as error:
        print(f"{arguments[0]}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"{arguments[0]}: interrupted; finished work is kept, run it again to go on", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

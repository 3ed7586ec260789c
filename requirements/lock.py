"""Resolves the requirements of `pyproject.toml` into the locks of this folder: `make lock`.

Locks are plain requirement files with hashes, and name no host: where packages come from is each machine's own
setting. `research.lock` is the whole workbench; `runner.lock` is the core alone, at the very same versions;
`bootstrap.txt` is the installer. Versions that are locked already stay as they are; to take the newest, delete the lock
before `make lock`.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.checks.files import requirements_digest
from tests.environment import PROJECT

COMMON = (
    "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-emit-find-links",
    "--no-header", "--quiet",
)  # fmt: skip
LOCKS = {
    "research.lock": ("pyproject.toml", "--all-extras", "--override", "requirements/overrides.txt"),
    "runner.lock": ("pyproject.toml", "--constraint", "requirements/research.lock"),
    "bootstrap.txt": ("requirements/bootstrap.in", "--no-annotate"),
}


def main() -> None:
    """Resolve each lock; an interrupted or failed run leaves the old one."""
    os.chdir(PROJECT)
    digest = requirements_digest(PROJECT)
    for name, arguments in LOCKS.items():
        target = Path("requirements", name)
        fresh = target.with_suffix(".new")
        if target.exists():
            fresh.write_bytes(target.read_bytes())
        print(f"resolving {target}")
        subprocess.run(["uv", "pip", "compile", *arguments, *COMMON, "--output-file", str(fresh)], check=True)
        body = "".join(line for line in fresh.open() if not line.startswith("# resolved by"))
        fresh.write_text(f"# resolved by `make lock` from requirements with sha256 {digest}\n{body}", encoding="utf-8")
        os.replace(fresh, target)


if __name__ == "__main__":
    main()

# Sets up .venv from the locked requirements; called by make with PROJECT set and the preferred Python as argument.
# Personal pip and uv settings (mirrors, certificates) apply; both caches stay inside the project.
set -eu
cd "$PROJECT"
UV_CACHE_DIR="$PROJECT/.cache/uv" PIP_CACHE_DIR="$PROJECT/.cache/pip" UV_PYTHON_DOWNLOADS=never
export UV_CACHE_DIR PIP_CACHE_DIR UV_PYTHON_DOWNLOADS PIP_DISABLE_PIP_VERSION_CHECK=1

suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null; }

if ! { [ -f .venv/.folder ] && [ "$(cat .venv/.folder)" = "$PROJECT" ] && suits .venv/bin/python; }; then
    for python in "$1" python3 python3.11 python3.12 python3.13 none; do
        if suits "$python"; then break; fi
    done
    if [ "$python" = none ]; then
        echo "tradelib needs Python 3.11, 3.12 or 3.13; '$1' is $("$1" --version 2>/dev/null || echo missing)." >&2
        echo "Install one of them, or name it: make PYTHON=/path/to/python3.11 ..." >&2
        exit 1
    fi
    echo "Setting up .venv with $("$python" --version) (once; about a minute and 1.5 GB)"
    "$python" -m venv --clear .venv
    .venv/bin/python -m pip install --quiet --require-hashes -r requirements/bootstrap.txt
    printf '%s' "$PROJECT" >.venv/.folder
fi

uv() { .venv/bin/uv "$@" --python .venv/bin/python --quiet; }
uv pip sync --require-hashes requirements/research.lock
uv pip install --no-deps --no-build-isolation --editable .
printf '%s' "$PROJECT" >.venv/.synced

"""The runner is lean: what its import and a whole paper run load, measured in fresh interpreters."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.support import GOLDEN, Sealed, exchange, venue

FORBIDDEN = {
    "IPython", "arch", "backtrader", "dvc", "exchange_calendars", "execnb", "fastcore", "great_expectations", "jupyter",
    "jupyter_client", "jupyter_core", "jupyterlab", "llvmlite", "matplotlib", "mlflow", "nbdev", "numba", "papermill",
    "plotly", "prophet", "pyarrow", "pyfolio", "quantstats", "scipy", "sklearn", "statsmodels", "tqdm", "xgboost",
}  # fmt: skip

HIDE = f"""
import sys

class Hidden:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in {FORBIDDEN!r}
        return None if hidden else self.finder.find_spec(name, path, target)

sys.meta_path[:] = [Hidden(finder) for finder in sys.meta_path]
"""
"""Makes an interpreter that has every research package look like one that has none: pandas, for one, takes pyarrow
where it finds it."""

IMPORTS = """
import json, sys
before = set(sys.modules)
{statement}
print(json.dumps(sorted({{name.partition(".")[0] for name in sys.modules.keys() - before}})))
"""

RUN = """
import json, sys
from tradelib.bundle import TrustStore
from tradelib.live import run_bundle
path, trust, url, journal, until = sys.argv[1:]
summary = run_bundle(path, venue_url=url, journal_path=journal, trust=TrustStore(trust), until=until)
print(json.dumps({"modules": sorted({name.partition(".")[0] for name in sys.modules}), **summary.as_dict()}))
"""


def loaded(statement: str) -> set[str]:
    """Top-level modules that `statement` loads in a fresh interpreter."""
    command = [sys.executable, "-c", IMPORTS.format(statement=statement)]
    return set(json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout))


def test_importing_the_room_loads_nothing_but_the_standard_library() -> None:
    assert not loaded("import tradelib.live") & (FORBIDDEN | {"ccxt", "pandas", "numpy", "pydantic", "aiohttp"})


@pytest.mark.parametrize("module", ["runner", "connection", "orders", "bars", "account", "admission", "summary"])
def test_importing_a_part_loads_neither_the_client_nor_research(module: str) -> None:
    taken_by_pandas = {"pyarrow"}
    assert not loaded(f"import tradelib.live.{module}") & (FORBIDDEN - taken_by_pandas | {"ccxt", "aiohttp"})


@pytest.mark.integration
def test_a_whole_paper_run_works_where_no_research_package_is_installed(sealed: Sealed, tmp_path: Path) -> None:
    until = sealed.bars.index[GOLDEN + 9].isoformat()
    with venue(exchange(sealed)) as served:
        paths = [str(sealed.bundle.path), str(sealed.trust.folder), served.url, str(tmp_path / "j"), until]
        done = subprocess.run([sys.executable, "-c", HIDE + RUN, *paths], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["decisions"] == 11
    assert told["filled"] > 0
    assert "ccxt" in told["modules"]
    assert not set(told["modules"]) & FORBIDDEN
    assert done.stderr == ""


CLASSES = """
import json, sys
from tradelib.live.connection import make_client
for name in ("binance", "kraken", "bitget"):
    make_client("http://127.0.0.1:1", "paper", "k", "dGVzdA==", name, passphrase="p", streams=True)
loaded = sum(name.startswith("ccxt.async_support.") and name.count(".") == 2 for name in sys.modules)
import ccxt, ccxt.pro
from ccxt.async_support import okx
print(json.dumps({
    "loaded": loaded,
    "all": len(ccxt.exchanges),
    "same": [ccxt.pro.NetworkError is ccxt.NetworkError, issubclass(ccxt.RequestTimeout, ccxt.NetworkError)],
    "classes": [made.__mro__[1].__name__ for made in (okx, ccxt.async_support.kraken, ccxt.binance, ccxt.pro.okx)],
    "pro": issubclass(ccxt.pro.bitget, ccxt.async_support.bitget),
}))
try:
    ccxt.no_such_exchange
except AttributeError as error:
    print(error, file=sys.stderr)
"""


def test_a_client_loads_its_exchange_alone_and_the_rest_of_ccxt_is_there_when_it_is_asked_for() -> None:
    """All of ccxt would be half of the runner's memory (`make bench`, w8)."""
    done = subprocess.run([sys.executable, "-c", CLASSES], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout)
    assert told["loaded"] <= 3 + len(("base",))
    assert told["all"] > 90
    assert told["same"] == [True, True]
    assert told["classes"] == ["Exchange", "Exchange", "Exchange", "okx"]
    assert told["pro"]
    assert "no_such_exchange" in done.stderr

"""The whole road, for real: a fresh clone, one command, every stage, and what happens when a fault is planted."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.environment import project_environment

pytestmark = [pytest.mark.integration, pytest.mark.slow, pytest.mark.timeout(1200)]


def git(folder, *arguments):
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


class Clone:
    """A copy of the project's files in a git repository of its own, with the environment of `make`."""

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        names = git(source, "ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
        for name in filter(None, names):
            if (source / name).is_file():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source / name, folder / name)
        git(folder, "init", "-q")
        git(folder, "add", "-A")
        git(folder, "-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "-qm", "copy")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "CI") if name in os.environ}
        self.environment = kept | project_environment(folder) | {"HOME": str(folder / ".cache" / "home")}

    def run(self, *arguments, check=True, **options):
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            **options,
        )
        if check:
            assert done.returncode == 0, done.stdout + done.stderr
        return done

    def json(self, *parts):
        return json.loads(self.folder.joinpath(*parts).read_text())


@pytest.fixture(scope="module")
def clone(project, tmp_path_factory):
    return Clone(project, tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def demo(clone):
    """The output of the first `make demo`'s work in a fresh clone."""
    return clone.run("-m", "pipelines.demo")


@pytest.fixture
def params(clone, demo):
    """The parameters, to be changed by one test."""
    path = clone.folder / "params.yaml"
    before = path.read_text()
    yield path
    path.write_text(before)


class TestDemo:
    def test_it_ends_with_the_verdict_of_every_candidate(self, demo):
        for name in ("trend_sp500", "trend_nasdaq"):
            assert re.search(rf"{name}: (paper only|may trade live)", demo.stdout)
        for words in ("trials counted", "deflated sharpe", "registered", "paper equals research", "verdict.html"):
            assert words in demo.stdout

    def test_it_leaves_git_clean_so_that_the_committed_lock_is_what_a_clean_clone_gives(self, clone, demo):
        assert git(clone.folder, "status", "--porcelain") == ""

    def test_nothing_is_written_to_the_home_of_the_user(self, clone, demo):
        home = Path(clone.environment["HOME"])
        assert not home.exists() or list(home.rglob("*")) == []

    def test_the_paper_account_equals_the_backtest_to_the_last_bit(self, clone, demo):
        for name in ("trend_sp500", "trend_nasdaq"):
            paper = clone.json("artifacts", "paper", name, "paper.json")
            assert paper["equal"]
            assert paper["compared"]["bars"] > 250
            assert paper["compared"]["fills"] > 0
            assert paper["paper_equity"] == paper["research_equity"]

    def test_every_point_of_the_sweep_was_counted(self, clone, demo):
        trials = clone.json("artifacts", "trials", "trials.json")
        for name in ("trend_sp500", "trend_nasdaq"):
            sweep = clone.json("artifacts", "research", name, "sweep.json")
            family = sweep["trials"][0]["family"]
            assert trials[family]["count"] == len(sweep["points"]) + 3  # unseen, stressed, chosen anew

    def test_research_never_saw_the_paper_window(self, clone, demo):
        code = (
            "from tradelib.data.files import read_bars; b = read_bars('artifacts/data/sp500/research.parquet');"
            "print(b.index[-1].date())"
        )
        assert clone.run("-c", code).stdout.strip() == "2017-12-29"

    def test_failed_evidence_is_reported_with_figures_not_as_an_error(self, clone, demo):
        gates = clone.json("artifacts", "gates", "trend_sp500", "gates.json")
        failed = [gate for gate in gates["gates"] if not gate["passed"]]
        assert gates["permission"] == "paper"
        assert all(gate["tier"] == "evidence" and gate["figure"] is not None for gate in failed)
        assert "deflated sharpe" in gates["summary"]

    def test_the_page_is_complete_and_asks_nobody(self, clone, demo):
        page = (clone.folder / "runs" / "verdict" / "verdict.html").read_text()
        assert "trend_nasdaq" in page
        assert not re.search(r"""(?:src|href)\s*=\s*["']https?://""", page)

    def test_the_registry_holds_both_with_their_digests(self, clone, demo):
        code = (
            "import mlflow; mlflow.set_tracking_uri('sqlite:///mlruns/mlflow.db'); c = mlflow.MlflowClient();"
            "v = c.get_model_version_by_alias('trend_sp500', 'challenger'); r = c.get_run(v.run_id);"
            "print(v.version, sorted(r.data.tags), r.data.metrics['out_of_sample.sharpe_ratio'])"
        )
        told = clone.run("-c", code).stdout
        for tag in ("commit", "dvc_lock_digest", "params_digest", "data_digest", "trials", "trials.anchor"):
            assert tag in told


class TestSecondCall:
    def test_nothing_runs_again_but_the_count(self, clone, demo):
        began = time.monotonic()
        done = clone.run("-m", "dvc", "repro")
        assert re.findall(r"Running stage '([^']+)'", done.stdout) == ["trials"]
        assert time.monotonic() - began < 60
        assert git(clone.folder, "status", "--porcelain") == ""

    def test_a_comment_in_the_parameters_runs_nothing(self, clone, demo):
        path = clone.folder / "params.yaml"
        before = path.read_text()
        path.write_text("# a comment\n" + before)
        done = clone.run("-m", "dvc", "repro", "--dry")
        path.write_text(before)
        assert re.findall(r"Running stage '([^']+)'", done.stdout) == ["trials"]

    def test_a_lost_bundle_is_made_anew(self, clone, demo):
        bundles = sorted((clone.folder / "bundles").glob("trend_sp500-*"))
        for bundle in bundles:
            shutil.rmtree(bundle)
        done = clone.run("-m", "pipelines.demo")
        assert "promote@trend_sp500" in done.stdout
        assert sorted((clone.folder / "bundles").glob("trend_sp500-*"))
        assert git(clone.folder, "status", "--porcelain") == ""


class TestInterruption:
    """Before any fault is planted: what those try stays counted, and moves the lock."""

    def test_ctrl_c_ends_in_one_line_and_the_next_call_goes_on(self, clone, params):
        before = params.read_text()
        params.write_text(before.replace("every: 1 ", "every: 2 "))
        process = subprocess.Popen(
            [sys.executable, "-m", "pipelines.demo"],
            cwd=clone.folder,
            env=clone.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert process.stdout is not None
        told = ""
        while "gates@trend_sp500" not in told:
            told += process.stdout.read(1)
        time.sleep(3)
        os.killpg(process.pid, signal.SIGINT)
        told += process.communicate(timeout=60)[0]
        assert process.returncode == 130, told
        assert "Traceback" not in told
        assert "interrupted" in told
        assert not [
            path for path in (clone.folder / "artifacts").rglob("*") if "tmp" in path.name or "partial" in path.name
        ]
        params.write_text(before)
        clone.run("-m", "pipelines.demo")
        assert git(clone.folder, "status", "--porcelain") == ""


class TestPlantedFaults:
    """Each in the finished clone; what is planted is caught by the stage that is there for it, in one line."""

    def refused(self, clone, *arguments):
        done = clone.run("-m", "pipelines.run", *arguments, check=False)
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        return done.stderr

    def test_a_misspelt_key_stops_the_demo_before_anything_runs(self, clone, params):
        params.write_text(params.read_text().replace("fee_rate:", "fee_rte:"))
        done = clone.run("-m", "pipelines.demo", check=False)
        assert done.returncode == 1
        assert "did you mean 'fee_rate'" in done.stderr
        assert "1/17" not in done.stdout

    def test_bars_with_a_hole_fail_validation_with_a_report(self, clone, params):
        code = (
            "from tradelib.data.files import read_bars, write_bars; from tradelib.data.bars import make_bars;"
            "b = read_bars('artifacts/data/sp500/tape.parquet');"
            "h = b.drop(b.index[1000:1200]);"
            "a = {k: b.attrs[k] for k in ('symbol', 'timeframe', 'source', 'calendar')};"
            "write_bars(make_bars(h, **a), 'runs/holed.parquet')"
        )
        clone.run("-c", code)
        holed = "  holed: {source: file, path: runs/holed.parquet, symbol: HOLE/USDT}\n"
        params.write_text(params.read_text().replace("markets:", "markets:\n" + holed + "  #", 1))
        clone.run("-m", "pipelines.run", "ingest", "holed")
        told = self.refused(clone, "validate", "holed")
        assert "the bars of holed fail" in told
        assert (clone.folder / "artifacts" / "quality" / "holed" / "quality.html").is_file()

    def test_a_corrupt_file_of_bars_is_refused(self, clone, params):
        source = clone.folder / "artifacts" / "data" / "sp500" / "tape.parquet"
        damaged = bytearray(source.read_bytes())
        damaged[len(damaged) // 2] ^= 0xFF
        (clone.folder / "runs" / "damaged.parquet").write_bytes(damaged)
        entry = "  damaged: {source: file, path: runs/damaged.parquet, symbol: HOLE/USDT}\n"
        params.write_text(params.read_text().replace("markets:", "markets:\n" + entry + "  #", 1))
        assert "damaged.parquet" in self.refused(clone, "ingest", "damaged")
        assert not (clone.folder / "artifacts" / "data" / "damaged" / "tape.parquet").exists()

    def test_an_unknown_candidate_is_named(self, clone, demo):
        assert "there is no" in self.refused(clone, "evaluate", "trend_sp5000")

    def test_a_flipped_byte_in_the_bundle_stops_the_paper_run(self, clone, demo):
        folder = clone.json("runs", "promote", "trend_nasdaq.json")["folder"]
        target = clone.folder / "bundles" / folder / "rule.json"
        before = target.read_bytes()
        target.write_bytes(before.replace(b"0.15", b"0.16"))
        told = self.refused(clone, "paper", "trend_nasdaq")
        target.write_bytes(before)
        assert "rule.json" in told

    def test_a_changed_package_is_not_the_one_that_was_sealed(self, clone, demo):
        target = clone.folder / "tradelib" / "strategies" / "trend.py"
        before = target.read_text()
        target.write_text(before + "\n# changed after promotion\n")
        told = self.refused(clone, "paper", "trend_nasdaq")
        target.write_text(before)
        assert "strategies/trend.py" in told

    def test_a_peeking_strategy_is_refused_by_name_and_the_other_candidate_goes_on(self, clone, params):
        module = clone.folder / "tradelib" / "strategies" / "trend.py"
        before = module.read_text()
        module.write_text(
            before + "\n\nclass Peeking(TrendFollowing):\n    def signals(self, bars: pd.DataFrame) -> pd.Series:\n"
            "        return super().signals(bars).shift(-1).ffill()\n"
        )
        head, _, tail = params.read_text().partition("trend_nasdaq:")
        params.write_text(f"{head}trend_nasdaq:{tail.replace('name: TrendFollowing', 'name: Peeking')}")
        done = clone.run("-m", "pipelines.demo", check=False)
        module.write_text(before)
        assert done.returncode == 1
        assert "Traceback" not in done.stdout + done.stderr
        assert "trend_nasdaq: may not trade" in done.stdout
        assert "trend_sp500: paper only" in done.stdout
        gates = {gate["name"]: gate for gate in clone.json("artifacts", "gates", "trend_nasdaq", "gates.json")["gates"]}
        assert not gates["causality"]["passed"]
        assert re.search(r"signal.*\d{4}-\d{2}-\d{2}", gates["causality"]["explanation"])

    def test_a_deleted_ledger_is_missed_by_the_count_and_by_promotion(self, clone, demo):
        ledger = clone.folder / ".tradelib" / "trials.sqlite"
        kept = {path: path.read_bytes() for path in ledger.parent.glob("trials.sqlite*")}
        for path in kept:
            path.unlink()
        told = [self.refused(clone, *stage) for stage in (("trials",), ("promote", "trend_sp500"))]
        for path in ledger.parent.glob("trials.sqlite*"):
            path.unlink()
        for path, content in kept.items():
            path.write_bytes(content)
        assert all("is not the one of which MLflow run" in words for words in told)
        clone.run("-m", "pipelines.run", "trials")

"""Models in files: every kind comes back with the same bits, and what was touched does not come back at all."""

from __future__ import annotations

import base64
import io
import json
import logging
import math
import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import xgboost
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from tests.environment import PROJECT
from tradelib.errors import DataError, ParameterError
from tradelib.features.regime_model import RegimeModel
from tradelib.ledger.chain import canonical
from tradelib.models import SavedModel, load_model, predictions, read_model, save_model
from tradelib.models.formats import FORMATS, booster_trees
from tradelib.risk.tail_models import GarchFit

RANDOM = np.random.default_rng(3)
X = pd.DataFrame(RANDOM.normal(size=(600, 4)), columns=["momentum", "strength", "range", "noise"])
Y = (X["momentum"] * np.sign(X["strength"]) + 0.3 * RANDOM.normal(size=600) > 0).astype(int)
RETURNS = pd.DataFrame({"return": RANDOM.normal(0.0, 0.01, 300)})
DAYS = pd.DataFrame({"ds": pd.date_range("2020-01-01", periods=200), "y": np.cumsum(RANDOM.normal(size=200))})

Made = tuple[Any, pd.DataFrame, np.ndarray]
"""A fitted model, what it is asked, and what its own library says."""


def early_stopped() -> Made:
    fitted = xgboost.XGBClassifier(n_estimators=200, max_depth=3, early_stopping_rounds=3, n_jobs=1)
    fitted.fit(X[:400], Y[:400], eval_set=[(X[400:], Y[400:])], verbose=False)
    assert fitted.best_iteration + 1 < fitted.get_booster().num_boosted_rounds()
    return fitted, X, fitted.predict_proba(X)[:, 1]


def boosted_regression() -> Made:
    fitted = xgboost.XGBRegressor(n_estimators=20, max_depth=3, n_jobs=1).fit(X, X["noise"])
    return fitted, X, fitted.predict(X)


def classifier(model: Any) -> Callable[[], Made]:
    def made() -> Made:
        fitted = model.fit(X, Y)
        return fitted, X, fitted.predict_proba(X)[:, 1]

    return made


def regressor(model: Any) -> Callable[[], Made]:
    def made() -> Made:
        fitted = model.fit(X, X["noise"])
        return fitted, X, fitted.predict(X)

    return made


def forecast() -> Made:
    logging.getLogger("cmdstanpy").setLevel(logging.ERROR)
    from prophet import Prophet

    fitted = Prophet(uncertainty_samples=0).fit(DAYS)
    return fitted, DAYS, fitted.predict(DAYS)["yhat"].to_numpy()


def volatility() -> Made:
    fitted = GarchFit("GJR", "t", 0.05, 0.02, 0.05, 0.1, 0.85, (6.5,))
    return fitted, RETURNS, fitted.variances(RETURNS["return"].to_numpy())[1:]


def regime() -> Made:
    model = RegimeModel(means=(0.001, -0.001), volatilities=(0.01, 0.03), transition=((0.98, 0.02), (0.05, 0.95)))
    return model, RETURNS, model.filtered(RETURNS["return"])[0].to_numpy()


KINDS: dict[str, Callable[[], Made]] = {
    "boosted classifier": early_stopped,
    "boosted regression": boosted_regression,
    "logistic": classifier(LogisticRegression()),
    "scaled logistic": classifier(make_pipeline(StandardScaler(), LogisticRegression())),
    "ridge": regressor(Ridge()),
    "forest": classifier(RandomForestClassifier(10, random_state=0, n_jobs=1)),
    "histogram boosting": classifier(HistGradientBoostingClassifier(max_iter=10)),
    "gradient boosting": regressor(GradientBoostingRegressor(n_estimators=10)),
    "prophet": forecast,
    "garch": volatility,
    "regime": regime,
}


@cache
def made(kind: str) -> Made:
    """The model of that name, fitted once."""
    return KINDS[kind]()


@pytest.mark.parametrize("kind", KINDS)
def test_it_comes_back_with_the_same_bits(kind: str, tmp_path: Path) -> None:
    model, asked, said = made(kind)

    saved = save_model(model, tmp_path / "model.json")
    restored = load_model(tmp_path / "model.json", saved.digest)

    np.testing.assert_array_equal(predictions(restored, asked), said.astype(np.float64))
    assert FORMATS[saved.kind].binary or save_model(restored).content == saved.content
    assert read_model(tmp_path / "model.json") == saved


@pytest.mark.parametrize("kind", KINDS)
def test_saving_twice_gives_the_same_file(kind: str, tmp_path: Path) -> None:
    model, _, _ = made(kind)

    for name in ("one", "two"):
        save_model(model, tmp_path / name)

    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_another_process_writes_the_same_digests() -> None:
    kinds = ["scaled logistic", "forest", "boosted classifier"]
    code = (
        "import sys; sys.path.insert(0, '.'); from tests.models.test_saved import made; "
        f"from tradelib.models import save_model; print(*(save_model(made(kind)[0]).digest for kind in {kinds}))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)

    assert done.stdout.split() == [save_model(made(kind)[0]).digest for kind in kinds]


def test_the_signature_says_what_it_reads_and_what_it_says() -> None:
    saved = save_model(regime()[0])

    assert saved.signature == {
        "inputs": [{"name": "return", "dtype": "float64"}],
        "outputs": [{"name": "probability of state 0", "dtype": "float64"}],
    }
    assert (saved.kind, dict(saved.libraries)) == ("regime", {})
    assert saved.summary().endswith("by tradelib; reads return")


def test_what_comes_after_the_best_round_is_not_saved() -> None:
    """Given a classifier that stopped early, its booster asked directly says something else."""
    fitted, _, said = made("boosted classifier")

    whole = fitted.get_booster().predict(xgboost.DMatrix(X))

    assert np.abs(whole - said).max() > 0.001
    assert (
        len(booster_trees(save_model(fitted).content)["gradient_booster"]["model"]["trees"])
        == fitted.best_iteration + 1
    )


# -- what was touched ----------------------------------------------------------------------------------------------


def sealed(saved: SavedModel, **changes: Any) -> bytes:
    """A file as an attacker would write it: edited, and its digest made anew."""
    forged = SavedModel(
        **{name: changes.pop(name, getattr(saved, name)) for name in ("kind", "content", "features", "libraries")}
    )
    whole = json.loads(forged.to_text()) | changes
    return (canonical(whole) + "\n").encode()


GARCH = save_model(volatility()[0])
TOUCHED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "this is no JSON"),
    "no object": (b"[]", "this is no tradelib model"),
    "a pickle": (b"\x80\x04\x95\x00", "this is no JSON"),
    "deep nesting": (b"[" * 100_000, "this is no JSON"),
    "another format": (sealed(GARCH, format="other"), "this is no tradelib model of version 1"),
    "a later version": (sealed(GARCH, version=2), "this is no tradelib model of version 1"),
    "one digit": (GARCH.to_text().replace("0.85", "0.86").encode(), "its digest is another one"),
    "another column": (GARCH.to_text().replace('["return"]', '["close"]').encode(), "its digest is another one"),
    "another kind": (sealed(GARCH, kind="regime"), "'alpha' is unknown"),
    "an unknown kind": (GARCH.to_text().replace('"garch"', '"lightgbm"').encode(), "'lightgbm' are unknown"),
    "spaces": (GARCH.to_text().replace('":', '": ').encode(), "not the text that was written"),
    "a key twice": (
        GARCH.to_text().replace('{"content"', '{"kind":"x","content"').encode(),
        "not the text that was written",
    ),
    "one entry more": (sealed(GARCH, note="x"), "entries were added"),
    "no columns": (GARCH.to_text().replace('["return"]', "[]").encode(), "different names of columns"),
    "a library": (sealed(GARCH, libraries={"numpy": "1.0"}), "must say the versions of nothing"),
    "no number": (sealed(GARCH, content=GARCH.content.replace(b"0.85", b'"0.85"')), "this is no volatility model"),
    "infinity": (sealed(GARCH, content=GARCH.content.replace(b"0.85", b"1e999")), "this is no volatility model"),
    "one field less": (sealed(GARCH, content=GARCH.content.replace(b'"omega":0.02,', b"")), "'omega' is missing"),
}


@pytest.mark.parametrize("attack", TOUCHED)
def test_what_was_touched_is_refused_by_name(attack: str, tmp_path: Path) -> None:
    raw, told = TOUCHED[attack]
    (tmp_path / "model.json").write_bytes(raw)

    with pytest.raises(DataError, match=rf"model\.json: .*{told}"):
        load_model(tmp_path / "model.json")


def test_every_byte_of_a_file_counts(tmp_path: Path) -> None:
    raw = GARCH.to_text().encode()
    for place in range(len(raw)):
        (tmp_path / "model.json").write_bytes(raw[:place] + bytes([raw[place] ^ 1]) + raw[place + 1 :])
        with pytest.raises(DataError):
            load_model(tmp_path / "model.json", GARCH.digest)


def test_a_forged_model_with_a_digest_of_its_own_is_found_by_the_one_kept_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "model.json").write_bytes(sealed(GARCH, content=GARCH.content.replace(b"0.85", b"0.86")))

    assert load_model(tmp_path / "model.json").beta == 0.86
    with pytest.raises(DataError, match="it was replaced"):
        load_model(tmp_path / "model.json", GARCH.digest)


@pytest.mark.parametrize("kind", ["forest", "histogram boosting", "gradient boosting"])
def test_compiled_trees_load_only_with_a_digest_from_elsewhere(kind: str, tmp_path: Path) -> None:
    saved = save_model(made(kind)[0], tmp_path / "model.json")

    with pytest.raises(DataError, match="give the digest that the model had"):
        load_model(tmp_path / "model.json")
    load_model(tmp_path / "model.json", saved.digest)


def test_a_type_that_nobody_vouches_for_is_not_made_even_with_its_digest(tmp_path: Path) -> None:
    """Given a skops file whose class was changed to one that runs commands, it is refused by name."""
    saved = save_model(LogisticRegression().fit(X, Y))
    archive = zipfile.ZipFile(io.BytesIO(saved.content))
    schema = archive.read("schema.json").replace(b'"LogisticRegression"', b'"Popen"')
    schema = schema.replace(b'"sklearn.linear_model._logistic"', b'"subprocess"')
    whole = io.BytesIO()
    with zipfile.ZipFile(whole, "w") as forged:
        for name in archive.namelist():
            forged.writestr(name, schema if name == "schema.json" else archive.read(name))
    attack = SavedModel(saved.kind, whole.getvalue(), saved.features, saved.libraries)
    (tmp_path / "model.json").write_text(attack.to_text())

    with pytest.raises(DataError, match=r"subprocess\.Popen, which nobody vouches for: save the parts"):
        load_model(tmp_path / "model.json", attack.digest)


def planted(change: Callable[[dict[str, Any]], Any]) -> SavedModel:
    """A boosted model with one tree changed."""
    saved = save_model(made("boosted regression")[0])
    whole = json.loads(saved.content)
    change(whole["learner"]["gradient_booster"]["model"]["trees"][3])
    return SavedModel(saved.kind, json.dumps(whole).encode(), saved.features, saved.libraries)


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: tree["left_children"].__setitem__(0, 0),  # a circle
        lambda tree: tree["right_children"].__setitem__(0, 10_000),  # outside
        lambda tree: tree["left_children"].__setitem__(0, -1),  # half a leaf
        lambda tree: tree["split_indices"].__setitem__(0, 99),  # a column that is not there
        lambda tree: tree["split_conditions"].pop(),  # too short
    ],
)
def test_a_tree_that_is_none_does_not_reach_the_library(change: Callable[[dict[str, Any]], Any]) -> None:
    with pytest.raises(DataError, match="this is no tree model that XGBoost wrote: tree 3"):
        planted(change).restore()


@pytest.mark.parametrize(
    ("kind", "package", "then", "refused"),
    [
        ("boosted regression", "xgboost", "3.0.0", False),
        ("boosted regression", "xgboost", "2.1.4", True),
        ("ridge", "scikit-learn", "1.8.0", True),
        ("prophet", "prophet", "2.0.0", True),
    ],
)
def test_a_version_that_may_predict_otherwise_is_refused(kind: str, package: str, then: str, refused: bool) -> None:
    saved = save_model(made(kind)[0])
    old = SavedModel(saved.kind, saved.content, saved.features, {package: then})

    if refused:
        with pytest.raises(DataError, match=rf"{package} {then} wrote this model and "):
            old.restore()
    else:
        assert old.restore() is not None


# -- what cannot be saved ------------------------------------------------------------------------------------------


class Own(Ridge):
    """A class around a model of scikit-learn: its code would have to travel."""


@pytest.mark.parametrize("model", [Own(), object(), "model", print, np.arange(3)])
def test_what_has_no_safe_format_is_refused(model: Any) -> None:
    with pytest.raises(ParameterError, match="without pickle there are xgboost, scikit-learn, prophet, garch, regime"):
        save_model(model)


def test_columns_must_have_names() -> None:
    fitted = Ridge().fit(X.to_numpy(), Y)

    with pytest.raises(ParameterError, match="fit a table, or pass features"):
        save_model(fitted)
    with pytest.raises(ParameterError, match="different names"):
        save_model(fitted, features=["a", "a", "b", "c"])
    assert save_model(fitted, features=list("abcd")).features == ("a", "b", "c", "d")
    with pytest.raises(ParameterError, match="leave features out"):
        save_model(Ridge().fit(X, Y), features=list("abcd"))


def test_a_table_without_a_column_says_which() -> None:
    with pytest.raises(ParameterError, match="'strength', which is not there"):
        predictions(Ridge().fit(X, Y), X.drop(columns="strength"))


def test_the_unknown_likelihood_of_a_fit_stays_unknown() -> None:
    assert math.isnan(GARCH.restore().log_likelihood)
    assert GARCH.restore().shape == (6.5,)


def test_nothing_in_the_room_imports_pickle_or_a_library_by_itself() -> None:
    heavy = ["joblib", "prophet", "skops", "sklearn", "xgboost"]
    code = f"import sys, tradelib.models.saved; print(sorted(set({heavy}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PROJECT, capture_output=True, text=True, check=True)

    assert done.stdout.strip() == "[]"
    assert set(FORMATS) == {"xgboost", "scikit-learn", "prophet", "garch", "regime"}


def test_binary_content_is_base64_and_readable_content_is_text() -> None:
    assert json.loads(json.loads(GARCH.to_text())["content"])["beta"] == 0.85
    whole = json.loads(save_model(Ridge().fit(X, Y)).to_text())
    assert zipfile.is_zipfile(io.BytesIO(base64.b64decode(whole["content"])))


def test_a_support_vector_machine_without_probabilities_says_its_class() -> None:
    fitted = SVC().fit(X, Y)

    np.testing.assert_array_equal(predictions(save_model(fitted).restore(), X), fitted.predict(X))

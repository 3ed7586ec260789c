"""`params.yaml` is refused in one clear sentence, before anything runs."""

import pytest
import yaml

from pipelines import params
from pipelines.params import load, read_yaml
from tradelib.errors import ParameterError


@pytest.fixture
def written(project, tmp_path):
    """A folder whose params.yaml is the project's with changes, such as `{"costs/fee_rate": 2}`; None removes a key."""

    def write(changes):
        content = read_yaml(project / "params.yaml")
        for path, value in changes.items():
            *parents, name = path.split("/")
            place = content
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[name]
            else:
                place[name] = value
        (tmp_path / "params.yaml").write_text(yaml.safe_dump(content))
        return tmp_path

    return write


def test_the_committed_parameters_are_valid(project):
    settings = load(project)
    assert set(settings.sections) == set(params.SECTIONS)
    assert settings.strategies["trend_sp500"].decision_rule.strategy.slow == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategie": {}}, "has no section 'strategie'; did you mean 'strategies'"),
        ({"costs": None}, "lacks the section 'costs'"),
        ({"costs": 3}, "section 'costs': must be a mapping of parameters, not 3"),
        ({"costs/fee_rat": 0.1}, "section 'costs': Costs has no parameter 'fee_rat'; did you mean 'fee_rate'"),
        ({"costs/fee_rate": 2.0}, "section 'costs': Costs: fee_rate = 2.0: Input should be less than 0.5"),
        ({"costs/fee_rate": "free"}, "fee_rate = 'free': Input should be a valid number"),
        ({"account/cash": 0}, "section 'account': Account: cash = 0: Input should be greater than 0"),
        ({"gates/minimum_deflated_sharp": 0.5}, "did you mean 'minimum_deflated_sharpe'"),
        ({"gates/waived": {"capacity": {"trend_sp5": "?"}}}, "capacity is waived for 'trend_sp5', .* 'trend_sp500'"),
        ({"gates/minimum_deflated_sharpe": 1.5}, "minimum_deflated_sharpe = 1.5"),
        ({"quality/unheard_of": 3}, "section 'quality': .* has no parameter 'unheard_of'"),
        ({"windows/in_sample/start": "2013-01-01"}, "start 2013-01-01 lies after end 2012-12-31"),
        ({"windows/out_of_sample/start": "2012-01-01"}, "in_sample must end before out_of_sample starts"),
        ({"windows/paper/start": "01.01.2018"}, "start = '01.01.2018': write a date as 2018-12-31"),
        ({"markets/sp500/source": "internet"}, "section 'markets': sp500: MarketSource: source = 'internet'"),
        ({"markets/sp500/dataset": None}, "source 'embedded' needs 'dataset' and no 'path'"),
        ({"strategies/trend_sp500/market": "sp50"}, "trend_sp500: there is no market 'sp50'; did you mean 'sp500'"),
        ({"strategies/trend_sp500/rule/strategy/name": "TrendFolowing"}, "did you mean 'TrendFollowing'"),
        ({"strategies/trend_sp500/rule/strategy/params/fsat": 3}, "did you mean 'fast'"),
        ({"strategies/trend_sp500/rule/strategy/params/fast": 300}, r"fast \(300\) must be below slow \(200\)"),
        ({"strategies/trend_sp500/rule/sizing/params/window": 1}, "window = 1"),
        ({"strategies/trend_sp500/rule/band": 1}, "'band'"),
        ({"strategies/trend_sp500/grid/strategy.fsat": [1]}, "did you mean 'strategy.fast'"),
        ({"strategies/trend_sp500/grid/strategy.slow": [1]}, "no point of the grid is a valid rule"),
        ({"strategies/trend_sp500/rule/strategy/name": 3}, "strategy must be given as"),
        ({"strategies/trend_sp500/rule/strategy/params": [1]}, "strategy must be given as"),
        (
            {"strategies/trend_sp500/select_by": "sharp_ratio"},
            "select_by names 'sharp_ratio'.* did you mean 'sharpe_ratio'",
        ),
        ({"causality/every": 1000}, "every = 1000"),
        ({"strategies/a b": {}}, "the name 'a b' may hold letters, digits and underscores only"),
        ({"strategies": {}}, "must name at least one entry"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(written, changes, message):
    with pytest.raises(ParameterError, match=message):
        load(written(changes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("costs: {fee_rate: 0.1}\ncosts: {}\n", "line 2: the key 'costs' stands twice"),
        ("costs: {fee_rate: 0.1, fee_rate: 0.2}\n", "the key 'fee_rate' stands twice"),
        ("costs: [1\n", "is not valid YAML"),
        ("", "must hold sections"),
        ("- a\n", "must hold sections"),
    ],
)
def test_a_file_that_is_no_mapping_of_sections_is_refused(tmp_path, text, message):
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParameterError, match=message):
        load(tmp_path)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(ParameterError, match="does not exist: run this from the project's folder"):
        load(tmp_path)


def test_a_stage_sees_only_the_sections_it_names(project):
    settings = load(project, ("costs",))
    with pytest.raises(AttributeError, match="section 'gates' was not loaded"):
        _ = settings.gates

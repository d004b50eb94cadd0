from __future__ import annotations

import functools
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from glowgenius.errors import ConfigError
from glowgenius.evaluation.metrics import (
    METRICS,
    contains,
    exact_match,
    json_match,
    json_valid,
    label_match,
    number_match,
    resolve_metrics,
    strict_match,
    token_f1,
)
from glowgenius.evaluation.normalize import normalize

BOROUGHS = ("Brooklyn", "Queens", "Manhattan", "The Bronx", "Staten Island")
KNOWN = "'exact_match', 'strict', 'contains', 'token_f1', 'json', 'json_valid', 'number', 'label', 'abstains'"
TEXTS = st.lists(st.sampled_from(["A", "a", "the", "C", "Penn", "34", "St", "-", " ", "🗽", ".", "New York"])).map(
    " ".join
)


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("A", ["A"], 1),
        ("a", ["A"], 1),
        ("The A.", ["A"], 0),
        ("", ["A"], 0),
        ("", ["The"], 0),
        ("", [""], 0),
        ("🗽", ["🗽"], 1),
        ("🗽", ["🎭"], 0),
        ("A, C, E", ["A C E"], 0),
        ("C E", ["A C E"], 0),
        ("34th Street-Penn Station", ["34 St-Penn Station"], 0),
        ("34 st–penn station", ["34 St-Penn Station"], 1),
        ("Bronx", ["Queens", "The Bronx"], 0),
        ("the bronx", ["Queens", "The Bronx"], 1),
        ("Brooklyn or Queens", ["Brooklyn"], 0),
        ("It opened in 1883.", ["It opened in 1883"], 1),
        ("1,200", ["1200"], 1),
        ("А", ["A"], 0),  # a Cyrillic letter
        ("anything", [], 0),
    ],
)
def test_exact_match(prediction, accepted, expected):
    assert exact_match(prediction, accepted) == expected


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("Yankee Stadium is in the Bronx.", ["The Bronx"], 1),
        ("It stands on 34th Street, at Penn Station", ["34 St"], 0),
        ("Brooklynites say so", ["Brooklyn"], 0),
        ("the station of New Lots", ["New York"], 0),
        ("Take the A train", ["A"], 1),
        ("Take a train", ["A"], 0),
        ("It is a big one, so is the A", ["A"], 1),
        ("so am i", ["I"], 0),
        ("A", ["A"], 1),
        ("a C E line", ["A C E"], 1),
        ("", ["A"], 0),
        ("anything", [""], 0),
        ("Brooklyn or Queens", ["Brooklyn"], 0),
    ],
)
def test_contains(prediction, accepted, expected):
    assert contains(prediction, accepted) == expected


@pytest.mark.parametrize(
    ("prediction", "accepted", "rivals", "expected"),
    [
        ("Brooklyn or Queens", ["Brooklyn"], BOROUGHS, 0),
        ("It is in Brooklyn", ["Brooklyn"], BOROUGHS, 1),
        ("In Brooklyn, that is Kings County: Brooklyn", ["Brooklyn"], BOROUGHS, 1),
        ("Queens Village", ["Queens Village"], BOROUGHS, 1),
        ("Queens Village in Queens", ["Queens Village"], BOROUGHS, 0),
        ("East New York", ["New York"], ["East New York"], 0),
        ("the bronx", ["Bronx", "The Bronx"], BOROUGHS, 1),
        ("It is in Brooklyn, not in Queens", ["Brooklyn"], BOROUGHS, 1),
        ("Queens", ["Brooklyn"], BOROUGHS, 0),
    ],
)
def test_contains_refuses_an_answer_that_hedges(prediction, accepted, rivals, expected):
    assert contains(prediction, accepted, rivals=rivals) == expected


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("New York", ["New York"], 1.0),
        ("East New York", ["New York"], 0.8),  # precision 2/3, recall 1
        ("York", ["New York", "Boston"], 2 / 3),  # precision 1, recall 1/2
        ("New New York", ["New York"], 0.8),  # the second New finds no partner
        ("Boston", ["New York"], 0.0),
        ("", ["New York"], 0.0),
        ("", [""], 0.0),
        ("York", [], 0.0),
        ("the fifth avenue in manhattan", ["5th Avenue"], 2 / 7),  # one shared word of 5 and 2
        ("A", ["A C E"], 0.5),
    ],
)
def test_token_f1(prediction, accepted, expected):
    assert token_f1(prediction, accepted) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("Paris", "Paris", 1),
        (" Paris\n", "Paris", 1),
        ("paris", "Paris", 0),
        ("Paris.", "Paris", 0),
        ("def f():\n    return 1", "def f():\n    return 1", 1),
        ("def f():\n  return 1", "def f():\n    return 1", 0),
        ("", "", 0),
    ],
)
def test_strict(prediction, accepted, expected):
    assert strict_match(prediction, [accepted]) == expected


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ('{"a":1,"b":2}', '{"b": 2, "a": 1.0}', 1),
        ('{"a":1', '{"a":1}', 0),
        ('{"a":true}', '{"a":1}', 0),
        ('{"a":1,"a":1}', '{"a":1}', 0),
        ('```json\n{"a":1}\n```', '{"a":1}', 1),
        ("[1,2]", "[2,1]", 0),
        ('"1"', "1", 0),
        ("NaN", "NaN", 0),
        ('{"a":"X"}', '{"a":"x"}', 0),
        ("[" * 100_000, "[]", 0),
        ("1e400", "10e399", 1),
        ('"\\u00e9"', '"é"', 1),
        ('"e\u0301"', '"é"', 1),
        ("null", "null", 1),
        ("null", "false", 0),
        ("0", "false", 0),
        ('Here it is: {"a": 1}', '{"a": 1}', 0),
        ("{'a': 1}", '{"a": 1}', 0),
        ('{"a": 1,}', '{"a": 1}', 0),
        ('{"customer": "Bo Reyes", "quantity": 19', '{"customer": "Bo Reyes", "quantity": 19}', 0),
        ("customer: bo reyes; quantity 19", '{"customer": "Bo Reyes", "quantity": 19}', 0),
        ("not json", "not json", 0),
    ],
)
def test_json(prediction, accepted, expected):
    assert json_match(prediction, [accepted]) == expected


@pytest.mark.parametrize(("text", "valid"), [('{"a": 1}', 1), ("[]", 1), ('{"a": 1', 0), ("", 0), ("Infinity", 0)])
def test_json_valid(text, valid):
    assert json_valid(text) == valid


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(JSON)
def test_json_is_itself_however_it_is_written(value):
    written = json.dumps(value, indent=2, ensure_ascii=False)
    assert json_match(written, [json.dumps(value, sort_keys=True)]) == json_valid(written)


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("10 km", "10km", 1),
        ("10 km", "10 m", 0),
        ("1,000", "1000", 1),
        ("10,000 m", "10 km", 1),
        ("It is ten kilometres long.", "10 km", 1),
        ("10", "10 km", 0),
        ("> 10 km", "10 km", 0),
        ("5 + 5 = 10", "10", 1),
        ("$5", "5", 0),
        ("-5", "5", 0),
        ("5 MW", "5 mW", 0),
        ("1.0", "1", 1),
        ("1/2", "0.5", 1),
        ("The answer is 42.", "42", 1),
        ("between 5 and 10", "5", 0),
        ("10 %", "10", 0),
    ],
)
def test_number(prediction, accepted, expected):
    assert number_match(prediction, [accepted]) == expected


@pytest.mark.parametrize(
    ("prediction", "accepted", "expected"),
    [
        ("ham", "ham", 1),
        ("Ham.", "ham", 1),
        ("Label: ham", "ham", 1),
        ("The answer is spam!", "spam", 1),
        ("not_spam", "not spam", 1),
        ("spam", "not spam", 0),
        ("**ham**", "ham", 1),
        ("(B)", "B", 1),
        ("B)", "B", 1),
        ("C#", "C", 0),
        ("ham because it", "ham", 0),
        ("ham or spam", "ham", 0),
    ],
)
def test_label(prediction, accepted, expected):
    assert label_match(prediction, [accepted]) == expected


@given(TEXTS, st.lists(TEXTS, min_size=1, max_size=3))
def test_metrics_stay_in_order_and_bounds(prediction, accepted):
    exact, within, f1 = (METRICS[name](prediction, accepted) for name in ("exact_match", "contains", "token_f1"))
    assert exact in {0, 1}
    assert within in {0, 1}
    assert 0 <= f1 <= 1
    assert exact <= f1
    assert f1 >= 0 if within == 0 else f1 > 0


@given(TEXTS, TEXTS)
def test_exact_match_and_f1_are_symmetric(one, other):
    assert exact_match(one, [other]) == exact_match(other, [one])
    assert token_f1(one, [other]) == token_f1(other, [one])


@given(TEXTS)
def test_an_answer_matches_itself_unless_it_is_empty(text):
    assert exact_match(text, [text]) == bool(normalize(text))


@given(TEXTS, st.lists(TEXTS, max_size=3), TEXTS)
def test_one_more_accepted_answer_never_hurts(prediction, accepted, more):
    for metric in METRICS.values():
        assert metric(prediction, [*accepted, more]) >= metric(prediction, accepted)


@pytest.mark.parametrize("metric", METRICS.values())
def test_one_string_is_not_a_sequence_of_answers(metric):
    with pytest.raises(ConfigError) as error:
        metric("Brooklyn", "Brooklyn")
    assert str(error.value) == "accepted must be a sequence of answers, got the string 'Brooklyn'; write ('Brooklyn',)"


def test_rivals_are_a_sequence_too():
    with pytest.raises(ConfigError) as error:
        contains("Brooklyn", ["Brooklyn"], rivals="Queens")
    assert str(error.value) == "rivals must be a sequence of answers, got the string 'Queens'; write ('Queens',)"


def test_metrics_by_name_and_by_function():
    rivals = functools.partial(contains, rivals=BOROUGHS)
    assert resolve_metrics(("token_f1", "contains")) == {"token_f1": token_f1, "contains": contains}
    assert list(resolve_metrics({**METRICS, "rivals": rivals})) == [*METRICS, "rivals"]
    assert resolve_metrics(("exact_match", rivals)) == {"exact_match": exact_match, "contains": rivals}


def test_two_metrics_of_one_name():
    with pytest.raises(ConfigError) as error:
        resolve_metrics(("contains", functools.partial(contains, rivals=BOROUGHS)))
    assert str(error.value) == (
        "two different metrics are called 'contains'; give them names: metrics={'name': function}"
    )


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("exact_match", "metrics must be a sequence of names, got the string 'exact_match'; write ('exact_match',)"),
        ((), f"metrics must name at least one metric; known: {KNOWN}"),
        (
            ("exact_mach",),
            (
                "unknown metric 'exact_mach' (did you mean 'exact_match'?); "
                f"known: {KNOWN}; your own: metrics={{'name': function}}"
            ),
        ),
        (("nll",), "'nll' is not a metric of the generated text; ask for it with nll=True"),
        ({"mine": 3}, "metrics['mine'] must be a function of (prediction, accepted), got 3"),
    ],
)
def test_metrics_that_are_none(metrics, message):
    with pytest.raises(ConfigError) as error:
        resolve_metrics(metrics)
    assert str(error.value) == message

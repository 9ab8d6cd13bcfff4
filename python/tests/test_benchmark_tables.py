"""The tables of docs/benchmarks.md are those of benchmarks/results."""

import re

import pytest

from benchmarks.allreduce import FP32, Timing, table_of
from benchmarks.kernels import Comparison, Speed
from benchmarks.kernels import targets as kernel_targets
from benchmarks.report import PAGE, Grid, Target, at_least, at_most, filled, target_grid
from benchmarks.tables import TABLES, recorded

BLOCK = "before\n<!-- table: one -->\nold\n<!-- end -->\nafter\n<!-- table: two -->\n<!-- end -->\n"


@pytest.mark.parametrize("name", TABLES)
def test_the_page_shows_what_was_recorded(name):
    page = PAGE.read_text()
    assert filled(page, name, recorded(name)) == page, "run python -m benchmarks.tables"


def test_every_block_of_the_page_has_a_benchmark():
    assert set(re.findall("<!-- table: (.*?) -->", PAGE.read_text())) == set(TABLES)


def test_filling_a_block_changes_nothing_else():
    grid = Grid(("name", "figure"), [("a", "1"), ("b", "2")], "Title")
    once = filled(BLOCK, "one", [grid])
    table = "**Title**\n\n| name | figure |\n|---|--:|\n| a | 1 |\n| b | 2 |"
    assert once == BLOCK.replace("\nold\n", f"\n\n{table}\n\n")
    assert filled(once, "one", [grid]) == once
    with pytest.raises(ValueError, match="0 blocks 'three'"):
        filled(BLOCK, "three", [grid])


def test_terminal_and_page_show_the_same_cells():
    grid = Grid(("name", "figure"), [("a", "1"), ("b", "2")])
    assert [list(column.cells) for column in grid.rich().columns] == [["a", "b"], ["1", "2"]]


def test_targets_say_what_was_wanted_and_measured():
    found = [at_least("speed", 1.5, 2), at_most("share", 0.02, 0.02), Target("other", "5", True)]
    assert target_grid(found).rows == [
        ("speed >= 2x", "1.50x", "NO"),
        ("share <= 2%", "2.00%", "yes"),
        ("other", "5", "yes"),
    ]


def test_kernel_targets_are_ratios_and_the_slowest_pass():
    compared = [Comparison("a", "b", 1, 3, 3, 2), Comparison("c", "d", 1, 3, 3, None)]
    speeds = [
        Speed("encode x", 1, 1, 1, 4.0, 1),
        Speed("step y", 1, 1, 1, 0.9, 1),
        Speed("kernel z", 1, 1, 1, 0.1, 1),
    ]
    found = kernel_targets(compared, {speed.name: speed for speed in speeds})
    assert [(t.measured, t.met) for t in found] == [
        ("3.00x", True),
        ("0.9 GB/s (step y)", False),
    ]


def test_an_averaged_tensor_is_compared_in_its_own_network():
    times = [
        Timing("MPI", 2, 1024, FP32, [0.2, 0.4, 0.3], None),
        Timing("MPI", 2, 1024, "dense", [0.1, 0.2, 0.1], 10.0),
    ]
    grid = table_of(times, "MPI", 2)
    assert grid.columns == ("fp32 bytes", FP32, "dense")
    assert grid.rows == [("1 KiB", "300 ms (1x)", "100 ms (3x)")]

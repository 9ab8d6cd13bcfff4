"""Every task of the experiments trains on real ranks."""

from pathlib import Path

import pytest
import torch

from experiments.common.task import Score, prediction_sums, warm_up_and_cosine
from experiments.tasks import TASKS


def test_every_task_makes_two_steps_on_two_ranks(run_ranks):
    printed = run_ranks(2, "tasks.py")
    assert [line.partition(":")[0] for line in printed.splitlines()] == list(TASKS)


def test_a_score_is_that_of_all_predictions():
    logits = torch.tensor([[2.0, 0.0], [0.0, 2.0], [2.0, 0.0], [2.0, 0.0]])
    classes = torch.tensor([0, 1, 1, 0])
    one_by_one = sum(prediction_sums(logits[i : i + 1], classes[i : i + 1]) for i in range(4))
    score = Score.of(one_by_one)
    assert score.accuracy == 75
    assert score.loss == pytest.approx(torch.nn.functional.cross_entropy(logits, classes).item())
    assert score.shown("accuracy") == "accuracy 75.00 %"
    assert Score(0, 0).shown("perplexity") == "perplexity 1.00"


def test_the_rate_rises_to_its_peak_and_falls_to_nothing():
    rates = [warm_up_and_cosine(step, 100) for step in range(101)]
    assert rates[:10] == sorted(rates[:10]) and rates[9:] == sorted(rates[9:], reverse=True)
    assert 0 < rates[0] < 0.15 and max(rates) > 0.95 and rates[100] == 0


def test_data_that_is_not_there_is_refused(tmp_path: Path):
    for name, task in TASKS.items():
        with pytest.raises(ValueError, match=str(tmp_path)):
            task(tmp_path)
            pytest.fail(f"{name} took an empty folder")

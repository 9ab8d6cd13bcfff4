"""Logs of runs: what is written, what is read, and how a bad one is told."""

import json
import math

import pytest

import lgreco
from lgreco.run_log import plans_in_effect, read_run_log
from lgreco.run_log.reading import _NEEDED


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_smallest_run(tmp_path):
    with lgreco.RunLog(tmp_path / "run.jsonl") as log:
        log.step(loss=2.5)
        log.step(loss=1.5, rate=0.1)
    run = read_run_log(tmp_path / "run.jsonl")
    assert [line["step"] for line in run["step"]] == [1, 2]
    assert [line["loss"] for line in run["step"]] == [2.5, 1.5]
    assert run["step"][1]["rate"] == 0.1
    assert 0 <= run["step"][0]["seconds"] <= run["step"][1]["seconds"] == run["end"][0]["seconds"]
    assert run["end"][0]["steps"] == 2


def test_the_start_says_what_the_run_is_made_with(tmp_path):
    lgreco.RunLog(tmp_path / "my run.jsonl", settings={"seed": 3}, data="made up").close()
    (start,) = read_run_log(tmp_path / "my run.jsonl")["start"]
    assert start["name"] == "my run" and start["settings"] == {"seed": 3}
    assert start["versions"]["lgreco"] == lgreco.__version__
    assert {"cpu", "cores", "system"} <= start["hardware"].keys()
    assert start["date"].endswith("+00:00")


def test_evaluations_take_no_time_of_training(tmp_path, monkeypatch):
    now = 100.0
    monkeypatch.setattr("lgreco.run_log.writing.time.perf_counter", lambda: now)
    with lgreco.RunLog(tmp_path / "run.jsonl") as log:
        for step in range(4):
            now += 1.0
            log.step(1.0)
            if step == 1:
                now += 50.0
                log.evaluate(accuracy=10.0)
    run = read_run_log(tmp_path / "run.jsonl")
    assert [line["seconds"] for line in run["step"]] == [1, 2, 3, 4]
    assert run["evaluation"][0]["seconds"] == 2 and run["end"][0]["seconds"] == 4


def test_tensors_are_figures_and_what_is_not_finite_is_null(tmp_path):
    torch = pytest.importorskip("torch")
    with lgreco.RunLog(tmp_path / "run.jsonl") as log:
        log.step(torch.tensor(0.5))
        log.step(math.nan)
        log.evaluate(loss=math.inf)
    run = read_run_log(tmp_path / "run.jsonl")
    assert [line["loss"] for line in run["step"]] == [0.5, None]
    assert run["evaluation"][0]["loss"] is None


def test_only_rank_0_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with lgreco.RunLog(tmp_path / "run.jsonl") as log:
        log.step(1.0)
        log.evaluate(loss=1.0)
    with lgreco.RunLog(None) as log:
        log.step(1.0)
    assert not list(tmp_path.iterdir())


def test_a_run_that_failed_is_not_finished(tmp_path):
    with pytest.raises(KeyError), lgreco.RunLog(tmp_path / "run.jsonl") as log:
        log.step(1.0)
        raise KeyError
    assert "end" not in read_run_log(tmp_path / "run.jsonl")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda log: log.step("low"), "loss of 'step' is no number: 'low'"),
        (lambda log: log.step("1.0"), "is no number: '1.0'"),
        (lambda log: log.step(1.0, step=0), "step is 0; it must be a whole number above"),
        (lambda log: log.step(1.0, step=1.5), "step is 1.5"),
        (lambda log: log.evaluate(accuracy=[1, 2]), "accuracy of 'evaluation' is no number"),
        (lambda log: log.end(note=object()), "'end' cannot be written as JSON"),
        (lambda log: log.plan(lgreco.Plan({"x": lgreco.Dense()})), "'x', which is none of the"),
    ],
)
def test_wrong_use_is_told(tmp_path, call, message):
    log = lgreco.RunLog(tmp_path / "run.jsonl")
    with pytest.raises(lgreco.ConfigError, match=rf"^\[run log\] .*{message}"):
        call(log)


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ({"settings": [1]}, "settings must be a mapping"),
        ({"layers": {"w": 3}}, "layer 'w' must be a tuple of whole numbers"),
        ({"ranks": 0}, "ranks must be a whole number of at least 1"),
        ({"data": 3}, "data must be text"),
        ({"name": 3}, "name must be text"),
    ],
)
def test_wrong_arguments_are_told(tmp_path, about, message):
    with pytest.raises(lgreco.ConfigError, match=rf"^\[run log\] {message}"):
        lgreco.RunLog(tmp_path / "run.jsonl", **about)
    assert not list(tmp_path.iterdir())


def test_a_log_that_cannot_be_written_is_told(tmp_path):
    with pytest.raises(lgreco.StateError, match=r"\[run log\] cannot write .*no_folder"):
        lgreco.RunLog(tmp_path / "no_folder" / "run.jsonl")


def test_settings_that_json_cannot_hold_cost_no_older_log(tmp_path):
    (tmp_path / "run.jsonl").write_text("precious")
    with pytest.raises(lgreco.ConfigError, match="'start' cannot be written as JSON"):
        lgreco.RunLog(tmp_path / "run.jsonl", settings={"model": object()})
    assert (tmp_path / "run.jsonl").read_text() == "precious"


WHOLE = {
    "start": {"name": "tiny", "ranks": 2, "layers": {"w": [2, 3]}},
    "step": {"step": 1, "loss": 0.5, "seconds": 1.0},
    "stats": {"step": 1, "seconds": 1.0, "stats": {}},
    "evaluation": {"step": 1, "seconds": 1.0},
    "plan": {
        "step": 0, "version": 0, "levels": {"w": "dense"}, "layer_bytes": {"w": 24}, "bytes": 24,
    },
    "end": {"steps": 1, "seconds": 1.0},
}  # fmt: skip


def write(path, changed):
    lines = [{"event": event, **changed.get(event, values)} for event, values in WHOLE.items()]
    path.write_text("\n".join(map(json.dumps, lines)) + "\n")


def test_a_log_of_every_kind_of_line_is_read(tmp_path):
    write(tmp_path / "run.jsonl", {})
    run = read_run_log(tmp_path / "run.jsonl")
    assert run.keys() == WHOLE.keys() == _NEEDED.keys()
    assert plans_in_effect(run) == run["plan"]


@pytest.mark.parametrize("event", WHOLE)
def test_each_missing_or_wrong_field_is_told_with_its_line(event, tmp_path):
    path = tmp_path / "run.jsonl"
    number = list(WHOLE).index(event) + 1
    for field in _NEEDED[event]:
        write(path, {event: {k: v for k, v in WHOLE[event].items() if k != field}})
        with pytest.raises(lgreco.StateError, match=f"line {number}: '{event}' has no '{field}'"):
            read_run_log(path)
    for field in WHOLE[event]:
        write(path, {event: {**WHOLE[event], field: [True]}})
        wrong = f"line {number}: '{field}' of '{event}' is not (a|text|an)"
        with pytest.raises(lgreco.StateError, match=wrong):
            read_run_log(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no 'start' line"),
        ('{"event": "step"\n', "line 1: no JSON"),
        ("[1]\n", "line 1: no object with an 'event'"),
        ('\n{"name": "x"}\n', "line 2: no object with an 'event'"),
        ('{"event": "step", "step": 1, "loss": 1, "seconds": 1}\n', "has no 'start' line"),
    ],
)
def test_what_is_no_log_is_told(text, message, tmp_path):
    (tmp_path / "run.jsonl").write_text(text)
    with pytest.raises(lgreco.StateError, match=message):
        read_run_log(tmp_path / "run.jsonl")


def test_a_last_line_that_is_being_written_is_left_out(tmp_path):
    write(tmp_path / "run.jsonl", {})
    whole = (tmp_path / "run.jsonl").read_text()
    (tmp_path / "run.jsonl").write_text(whole + '{"event": "st')
    run = read_run_log(tmp_path / "run.jsonl")
    assert sum(map(len, run.values())) == len(WHOLE)

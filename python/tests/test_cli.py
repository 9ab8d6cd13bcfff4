import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import lgreco
from lgreco._core import harm
from lgreco.cli import app
from lgreco.codec import payload_bytes
from lgreco.plan import Estimate, LayerEstimate

FACTORY = "experiments.models.resnet:cifar100"


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def shapes_file(tmp_path, resnet18_shapes):
    path = tmp_path / "shapes.json"
    path.write_text(json.dumps(resnet18_shapes))
    return path


def test_published_ratios_of_resnet18(shapes_file):
    levels = [f"--method=low_rank:{rank}" for rank in (1, 2, 4, 8)]
    results = json.loads(run("ratio", shapes_file, *levels, "--json"))["levels"]
    assert [round(r["published_ratio"], 1) for r in results] == [243.3, 136.0, 72.2, 37.3]
    assert all(r["elements"] == 11_220_132 for r in results)


def test_ratio_of_checkpoint_and_factory_agree_with_shapes(shapes_file, tmp_path, monkeypatch):
    from experiments.models.resnet import cifar100

    monkeypatch.chdir(tmp_path)
    torch.save({"model": cifar100().state_dict()}, "model.pt")
    expected = run("ratio", shapes_file, "--method=quantize:4", "--json")
    assert run("ratio", "model.pt", "--method=quantize:4", "--json") == expected
    assert run("ratio", FACTORY, "--method=quantize:4", "--json") == expected


def test_ratio_prints_a_table(shapes_file):
    output = run("ratio", shapes_file, "--method=low_rank:4")
    assert "72.2" in output and "11,220,132" in output


def test_plan_from_gradients(tmp_path):
    rng = np.random.default_rng(0)
    low_rank = np.outer(rng.standard_normal(100), rng.standard_normal(200))
    gradients = {"a": low_rank, "b": rng.standard_normal((100, 200)), "bias": rng.random(100)}
    np.savez(tmp_path / "g.npz", **{k: v.astype(np.float32) for k, v in gradients.items()})
    plan_file = tmp_path / "plan.json"
    arguments = ("plan", tmp_path / "g.npz", "--reference=low_rank:4", f"--output={plan_file}")
    result = json.loads(run(*arguments, "--json"))
    assert result["bytes"] < result["reference_bytes"]
    assert result["error"] <= result["budget"]
    assert result["lower_bound"] == result["bytes"]
    assert result["levels"]["a"] == "low_rank:2"
    assert lgreco.Plan.load(plan_file)["a"] == lgreco.PowerSGD(2)
    assert "gap 0.000 %" in run(*arguments)
    assert "low_rank:2" in run("inspect", plan_file)


def test_plan_from_a_table(tmp_path):
    table = {
        "names": ["x", "y"],
        "levels": ["quantize:2", "quantize:4"],
        "costs": [[1, 2], [10, 20]],
        "errors": [[5, 1], [0.5, 0.1]],
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    result = json.loads(
        run("plan", tmp_path / "table.json", "--reference=quantize:4", "--alpha=1.5", "--json")
    )
    assert result["levels"] == {"x": "quantize:4", "y": "quantize:2"}


def write_gradients(path):
    rng = np.random.default_rng(0)
    spectrum = rng.standard_normal((60, 12)) @ rng.standard_normal((12, 90))
    gradients = {
        "smooth": spectrum,
        "rough": rng.standard_normal((60, 90)),
        "still": np.zeros((60, 90)),
        "bias": rng.standard_normal(60),
    }
    np.savez(path, **{name: g.astype(np.float32) for name, g in gradients.items()})
    return gradients


def test_plan_says_what_each_layer_costs_and_why(tmp_path):
    gradients = write_gradients(tmp_path / "g.npz")
    plan_file = tmp_path / "plan.json"
    run("plan", tmp_path / "g.npz", "--reference=low_rank:4", f"--output={plan_file}")
    plan = lgreco.Plan.load(plan_file)
    assert list(plan.estimates) == list(gradients)
    for name, estimate in plan.estimates.items():
        shape = gradients[name].shape
        assert estimate.dense.bytes == 4 * gradients[name].size
        assert estimate.chosen.bytes == payload_bytes(plan[name], shape)
        assert estimate.chosen.seconds == 0
    assert plan.estimates["smooth"].reference.bytes == 4 * 4 * (60 + 90)
    assert sum(e.chosen.bytes for e in plan.estimates.values()) == plan.bytes
    assert sum(e.chosen.error for e in plan.estimates.values()) == pytest.approx(plan.error)
    assert plan.estimates["still"].reason == "zero or not finite: the reference"
    assert plan["still"] == lgreco.PowerSGD(4) and plan["bias"] == lgreco.Dense()
    output = run("inspect", plan_file)
    assert "zero or not finite" in output and "of dense" in output and "gap 0.000 %" in output


def test_plan_mixes_families(tmp_path):
    write_gradients(tmp_path / "g.npz")
    arguments = ("plan", tmp_path / "g.npz", "--reference=low_rank:4", "--json")
    same = json.loads(run(*arguments))
    mixed = json.loads(run(*arguments, "--levels=mixed"))
    assert mixed["bytes"] < same["bytes"]
    assert mixed["error"] <= mixed["budget"]
    families = {level.split(":")[0] for level in mixed["levels"].values()}
    assert {"low_rank", "quantize"} <= families or {"low_rank", "topk"} <= families


@pytest.mark.parametrize("budget", ["norm", "squared", "debt"])
def test_plan_keeps_the_budget_by_its_own_measure(tmp_path, budget):
    gradients = write_gradients(tmp_path / "g.npz")
    result = json.loads(
        run("plan", tmp_path / "g.npz", "--reference=low_rank:4", f"--budget={budget}", "--json")
    )

    def total(which):
        return sum(
            harm(budget, estimate[which]["error"], float(np.linalg.norm(gradients[name])))
            for name, estimate in result["estimates"].items()
        )

    assert result["budget"] == pytest.approx(total("reference"))
    assert result["error"] == pytest.approx(total("chosen"))
    assert result["error"] <= result["budget"] and result["within_budget"]


def test_levels_that_lose_all_of_a_layer_are_no_choice(tmp_path):
    table = {
        "names": ["x", "y"],
        "levels": ["quantize:1", "quantize:4", "dense"],
        "costs": [[1, 4, 32], [1, 4, 32]],
        "errors": [[1.5, 0.1, 0], [1.5, 0.1, 0]],
    }
    path = tmp_path / "table.json"
    arguments = ("plan", path, "--reference=quantize:4", "--alpha=100", "--json")
    path.write_text(json.dumps(table))
    assert json.loads(run(*arguments))["levels"]["x"] == "quantize:1"
    path.write_text(json.dumps(table | {"norms": [1, 4]}))
    assert json.loads(run(*arguments))["levels"] == {"x": "quantize:4", "y": "quantize:1"}
    path.write_text(json.dumps(table | {"norms": [1]}))
    with pytest.raises(lgreco.ConfigError, match="one number a layer"):
        run(*arguments)


def test_dense_is_always_a_candidate_for_gradients(tmp_path):
    gradients = write_gradients(tmp_path / "g.npz")
    arguments = ("--reference=low_rank:4", "--level=quantize:2", "--alpha=0", "--json")
    result = json.loads(run("plan", tmp_path / "g.npz", *arguments))
    assert result["levels"].pop("still") == "low_rank:4"
    assert set(result["levels"].values()) == {"dense"}
    assert result["within_budget"] and set(result["estimates"]) == set(gradients)


def test_layers_that_nothing_is_known_of_keep_the_reference(tmp_path):
    table = {
        "names": ["x", "y"],
        "levels": ["dense", "quantize:4", "quantize:2"],
        "costs": [[32, 4, 2], [32, 4, 2]],
        "errors": [[0, math.inf, 1], [0, 1, 2]],
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    plan_file = tmp_path / "plan.json"
    arguments = ("--reference=quantize:4", "--alpha=2", f"--output={plan_file}")
    run("plan", tmp_path / "table.json", *arguments)
    plan = lgreco.Plan.load(plan_file)
    assert plan.levels == {"x": lgreco.Quantize(4), "y": lgreco.Quantize(2)}
    assert plan.budget == 2
    assert plan.estimates["x"].reason == "zero or not finite: the reference"
    assert plan.estimates["x"].chosen == Estimate(4, 0, 0)
    assert plan.estimates["x"].dense == Estimate(32, 0, 0)


def test_a_budget_that_nothing_keeps_leaves_the_reference(tmp_path):
    table = {"names": ["x"], "levels": ["quantize:4"], "costs": [[4]], "errors": [[1]]}
    (tmp_path / "table.json").write_text(json.dumps(table))
    arguments = ("plan", tmp_path / "table.json", "--reference=quantize:4", "--alpha=0.5")
    result = json.loads(run(*arguments, "--json"))
    assert result["levels"] == {"x": "quantize:4"} and not result["within_budget"]
    assert result["estimates"] == {}, "the table does not know the layer's dense size"
    assert "EXCEEDS" in run(*arguments)


def test_the_reference_is_within_its_own_budget_to_the_last_bit(tmp_path):
    errors = np.random.default_rng(2).random(1000)
    table = {
        "names": [str(layer) for layer in range(1000)],
        "levels": ["quantize:4", "dense"],
        "costs": [[4, 32]] * 1000,
        "errors": [[error, 0] for error in errors],
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    result = json.loads(run("plan", tmp_path / "table.json", "--reference=quantize:4", "--json"))
    assert result["bytes"] == result["reference_bytes"] == 4000


def test_16_bit_gradients_are_planned_as_16_bit_layers(tmp_path):
    gradients = write_gradients(tmp_path / "g.npz")
    halves = {name: gradient.astype(np.float16) for name, gradient in gradients.items()}
    np.savez(tmp_path / "g.npz", **halves)
    result = json.loads(run("plan", tmp_path / "g.npz", "--reference=low_rank:4", "--json"))
    assert result["levels"]["bias"] == "cast:fp16"
    for name, half in halves.items():
        assert result["estimates"][name]["dense"] == {
            "bytes": half.nbytes, "error": 0.0, "seconds": 0.0
        }  # fmt: skip


def test_every_layer_has_an_estimate_and_one_of_the_engines_reasons(tmp_path):
    gradients = write_gradients(tmp_path / "g.npz") | {"broken": np.full((60, 90), np.nan)}
    np.savez(tmp_path / "g.npz", **{name: g.astype(np.float32) for name, g in gradients.items()})
    result = json.loads(run("plan", tmp_path / "g.npz", "--reference=low_rank:4", "--json"))
    assert {name: e["reason"] for name, e in result["estimates"].items()} == {
        "smooth": "fewest bytes within the budget",
        "rough": "fewest bytes within the budget",
        "still": "zero or not finite: the reference",
        "bias": "no other level suits",
        "broken": "zero or not finite: the reference",
    }


def test_an_unknown_budget_is_refused(tmp_path):
    write_gradients(tmp_path / "g.npz")
    with pytest.raises(lgreco.ConfigError, match="'norm', 'squared' or 'debt'"):
        run("plan", tmp_path / "g.npz", "--reference=low_rank:4", "--budget=cubed")


def test_a_diverging_reference_counts_no_more_than_the_layer(tmp_path):
    table = {
        "names": ["x", "y"],
        "levels": ["quantize:1", "quantize:4", "dense"],
        "costs": [[1, 4, 32], [1, 4, 32]],
        "errors": [[1.5, 0.1, 0], [1.5, 0.1, 0]],
        "norms": [1, 4],
    }
    (tmp_path / "table.json").write_text(json.dumps(table))
    arguments = ("plan", tmp_path / "table.json", "--reference=quantize:1")
    result = json.loads(run(*arguments, "--json"))
    assert result["budget"] == pytest.approx(1 + 1.5)
    assert "EXCEEDS" not in run(*arguments)


def some_state(plan):
    return {
        "format": 1, "rank": 0, "size": 2, "step": 5, "stats": {}, "plan": plan,
        "layers": {"w": {"residual": torch.ones(4, 4), "factor": torch.ones(2, 4)}},
    }  # fmt: skip


def test_inspect_reads_a_saved_state(tmp_path):
    state = some_state({"levels": {"w": "low_rank:2"}})
    for saved in (state, {"step": 5, "model": {"w": torch.ones(4, 4)}, "compression": state}):
        torch.save(saved, tmp_path / "state.pt")
        output = run("inspect", tmp_path / "state.pt")
        assert "step 5" in output and "2x4" in output


def test_inspect_reads_a_portable_state(tmp_path):
    state = some_state({"levels": {"w": "low_rank:2"}}) | {"portable": True}
    del state["rank"], state["size"]
    torch.save(state, tmp_path / "state.pt")
    assert "State of all ranks at step 5" in run("inspect", tmp_path / "state.pt")


def test_inspect_refuses_a_file_without_a_state(tmp_path):
    torch.save({"step": 5, "model": {"w": torch.ones(4, 4)}}, tmp_path / "state.pt")
    with pytest.raises(lgreco.StateError, match="holds no state of a Compression"):
        run("inspect", tmp_path / "state.pt")


def planned(**seconds):
    estimate = LayerEstimate(
        reason="dense is faster",
        chosen=Estimate(600.0, 0.5, seconds.get("chosen", 0.0)),
        reference=Estimate(800.0, 0.25, seconds.get("reference", 0.0)),
        dense=Estimate(6000.0, 0.0, seconds.get("dense", 0.0)),
    )
    levels = {"w": lgreco.PowerSGD(2), "b": lgreco.Dense()}
    return lgreco.Plan(levels, bytes=640, lower_bound=512, estimates={"w": estimate})


def test_inspect_shows_the_estimates_of_plans_states_and_logs(tmp_path):
    plan = planned()
    plan.save(tmp_path / "plan.json")
    torch.save(some_state(plan.to_dict()), tmp_path / "state.pt")
    with lgreco.RunLog(tmp_path / "run.jsonl", layers={"w": [64, 64], "b": [10]}) as log:
        log.plan(plan)
        log.step(1.0)
    for name in ("plan.json", "state.pt", "run.jsonl"):
        output = run("inspect", tmp_path / name)
        row = next(line for line in output.splitlines() if "dense is faster" in line)
        assert row.split()[:8] == ["w", "low_rank:2", "600", "75.0", "%", "10.0", "%", "0.5"]
        assert "bytes of 1 of 2 layers 600, reference 800: 1.33x fewer" in output
        assert "dense 6,000: 10.00x fewer" in output
        assert "gap 25.000 %" in output
        assert "reference ms" not in output
    for name, path in (("plan.json", []), ("state.pt", ["plan"]), ("run.jsonl", ["last_plan"])):
        values = json.loads(run("inspect", tmp_path / name, "--json"))
        for key in path:
            values = values[key]
        assert values["estimates"] == plan.to_dict()["estimates"]


def test_inspect_folds_what_travels_dense(tmp_path):
    small = {f"layers.{i}.norm.weight": lgreco.Dense() for i in range(40)}
    levels = {"head": lgreco.PowerSGD(2), "last": lgreco.Dense()} | small
    no_other = LayerEstimate("no other level suits", *[Estimate(40.0, 0.0, 0.0)] * 3)
    faster = LayerEstimate("dense is faster", *[Estimate(100.0, 0.0, 0.0)] * 3)
    estimates = dict.fromkeys(small, no_other) | {"last": faster}
    lgreco.Plan(levels).save(tmp_path / "bare.json")
    lgreco.Plan(levels, estimates=estimates).save(tmp_path / "planned.json")
    for name in ("bare.json", "planned.json"):
        output = run("inspect", tmp_path / name)
        assert "head" in output and "norm" not in output
        (row,) = [line for line in output.splitlines() if "41 layers" in line and "dense" in line]
    assert row.split()[3] == "1,700" and "40: no other level suits; 1: dense is faster" in row
    state = some_state({"levels": {"w": "low_rank:2"} | {name: "dense" for name in small}})
    state["layers"] |= dict.fromkeys(small, state["layers"]["w"])
    torch.save(state, tmp_path / "state.pt")
    output = run("inspect", tmp_path / "state.pt")
    assert "40 layers" in output and "norm.weight" not in output


def test_version_and_completion():
    assert run("--version").split() == ["lgreco", lgreco.__version__]
    help_text = run("--help")
    assert "--install-completion" in help_text and "--show-completion" in help_text
    environment = {
        "_LGRECO_COMPLETE": "complete_bash",
        "COMP_WORDS": "lgreco rep",
        "COMP_CWORD": "1",
    }
    program = "import sys; sys.argv[0] = 'lgreco'; from lgreco.cli import main; main()"
    completed = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
        check=False,
    )
    assert completed.stdout.split() == ["report"], completed.stderr


def test_inspect_shows_seconds_when_there_are_any(tmp_path):
    planned(chosen=0.004, reference=0.005, dense=0.006).save(tmp_path / "plan.json")
    output = run("inspect", tmp_path / "plan.json")
    row = next(line for line in output.splitlines() if "dense is faster" in line)
    assert row.split()[9:12] == ["4", "5", "6"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ratio", "missing.json", "--method=dense"], "cannot read 'missing.json'"),
        (["ratio", "missing", "--method=dense"], "no such file"),
        (["ratio", "no.such:thing", "--method=dense"], "cannot call it"),
        (["inspect", "missing.json"], "no such file"),
        (["report", "missing.jsonl"], "cannot read"),
        (["plan", "missing.npz", "--reference=low_rank:4"], "cannot read"),
        (["plan", "missing.npz", "--reference=magic"], "unknown method"),
        (["plan", "m.npz", "--reference=low_rank:4", "--levels=some"], "'same' or 'mixed'"),
    ],
)
def test_errors_are_one_line_and_status_2(arguments, message, tmp_path):
    command = [sys.executable, "-c", "from lgreco.cli import main; main()", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1


def test_names_are_shown_as_they_are(tmp_path):
    """Neither as markup nor as what a terminal acts upon."""
    path = tmp_path / "plan.json"
    lgreco.Plan({"[q]": "quantize:4", "[/x]": "dense", "\x1b[31m": "quantize:2"}).save(path)
    shown = run("inspect", path)
    assert "[q]" in shown and "\\x1b[31m" in shown and "\x1b" not in shown


def test_a_report_does_not_replace_its_log(tmp_path):
    path = tmp_path / "run.jsonl"
    with lgreco.RunLog(path, name="run", layers={"a": [4, 4]}, ranks=2) as log:
        log.step(1.0, seconds=0.1)
    before = path.read_bytes()
    with pytest.raises(lgreco.ConfigError, match="take the place of the log"):
        run("report", path, "-o", path)
    assert path.read_bytes() == before

"""`lgreco report`: what the page holds, what its figures are, and that it needs nothing else."""

import io
import json
import math
import re

import numpy as np
import plotly.graph_objects
import pytest
from hypothesis import given
from hypothesis import strategies as st
from plotly.offline import get_plotlyjs
from rich.console import Console
from typer.testing import CliRunner

import lgreco
from lgreco.cli import app
from lgreco.codec import payload_bytes
from lgreco.plan import Estimate, LayerEstimate
from lgreco.report import comparison_table, summaries, write_report
from lgreco.report.curves import loss
from lgreco.report.names import LONGEST, short_names
from lgreco.report.page import SECTIONS
from lgreco.report.plans import layers, plans
from lgreco.run_log import read_run_log


def run(*arguments):
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def write_log(path, *, compute_s=0.05, finished=True, **about):
    """Thirty steps of 100 ms and 100 bytes."""
    settings = {"seed": 7, "rate": 0.1}
    values = {"name": "tiny", "data": "made up", "layers": {"w": [64, 64]}, "ranks": 2}
    log = lgreco.RunLog(path, **{**values, "settings": settings, **about})
    log.plan(lgreco.Plan({"w": lgreco.PowerSGD(4)}, bytes=2048))
    for version, step, rank in ((1, 10, 2), (2, 20, 3), (3, 30, 1)):  # the last is never used
        plan = lgreco.Plan(
            {"w": lgreco.PowerSGD(rank)}, bytes=512 * rank, step=step, version=version, budget=1
        )
        log.plan(plan)
    stats = {"encode_s": 0.3, "decode_s": 0.3, "plan_s": 0.1, "wait_s": 0.6, "bytes_sent": 3000}
    for step in range(1, 31):
        log.step(1 / step, seconds=step / 10)
        if step % 10 == 0:
            log.stats({name: value * step / 30 for name, value in stats.items()})
    if finished:
        log.evaluate(accuracy=50.0, loss=1.0, bytes_sent=3000.0, seconds=3.0)
        log.end(
            seconds=3.0, compute_s=compute_s, bytes_sent=3000.0, loopback_bytes=3100.0,
            accuracy=50.0, loss=1.0, stats=stats,
        )  # fmt: skip
    else:
        log.__exit__(KeyboardInterrupt, None, None)
    return read_run_log(path)


LONG_NAME = "transformer.encoder.layers.11.self_attention.projection.weight"


def write_planned_log(path, versions=3):
    shapes = {LONG_NAME: [64, 64], "head.weight": [64, 32], "head.bias": [64]}
    with lgreco.RunLog(path, name="planned", layers=shapes, ranks=2) as log:
        for version in range(versions):
            levels = {
                LONG_NAME: lgreco.PowerSGD(1 + version),
                "head.weight": lgreco.Quantize(4),
                "head.bias": lgreco.Dense(),
            }
            estimates = {
                name: LayerEstimate(
                    reason="the reference",
                    chosen=Estimate(payload_bytes(level, shapes[name]), 0.5, 0.0),
                    reference=Estimate(payload_bytes(lgreco.PowerSGD(4), shapes[name]), 0.25, 0.0),
                    dense=Estimate(4 * np.prod(shapes[name]).item(), 0.0, 0.0),
                )
                for name, level in levels.items()
                if version > 0 and level != lgreco.Dense()
            }
            log.plan(lgreco.Plan(levels, step=10 * version, version=version, estimates=estimates))
        log.step(1.0, step=10 * versions)
    return read_run_log(path)


def without_library(page):
    assert page.count(get_plotlyjs()) == 1
    return page.replace(get_plotlyjs(), "")


def test_the_page_is_one_file_that_reaches_for_nothing(tmp_path):
    write_log(tmp_path / "run.jsonl")
    run("report", tmp_path / "run.jsonl", "-o", tmp_path / "report.html")
    page = without_library((tmp_path / "report.html").read_text())
    assert "http:" not in page and "https:" not in page
    assert re.findall(r'(?:src|href|url|import)\s*[=(]\s*["\']?([^"\')> ]+)', page) == ["data:,"]


def test_figures_of_a_run(tmp_path):
    write_log(tmp_path / "run.jsonl")
    output = tmp_path / "report.html"
    (summary,) = json.loads(run("report", tmp_path / "run.jsonl", "-o", output, "--json"))["runs"]
    assert summary["counted"] == 100.0 and summary["finished"]
    assert summary["ratio"] == pytest.approx(4 * 64 * 64 / 100)  # 2 (N - 1) / N = 1
    assert summary["plans"] == 2 and summary["within_budget"]
    # ten steps with 1,024 bytes, ten with 1,536, instead of twenty with 2,048
    assert summary["plan_gain"] == pytest.approx(2048 * 20 / (1024 * 10 + 1536 * 10))
    assert summary["plan_gain_min"] == pytest.approx(2048 / 1536)
    assert [summary[name] for name in ("step_s", "encode_s", "wait_s")] == [0.1, 0.01, 0.02]
    assert "tiny" in run("inspect", tmp_path / "run.jsonl")


def test_the_page_says_what_the_run_was_made_with(tmp_path):
    runs = [write_log(tmp_path / "a.jsonl"), write_log(tmp_path / "b.jsonl", settings={"seed": 8})]
    page = without_library(write_report(runs, tmp_path / "report.html").read_text())
    start = runs[0]["start"][0]
    for fact in (lgreco.__version__, start["versions"]["python"], start["hardware"]["cpu"]):
        assert f"<dd>{fact}</dd>" in page
    assert start["date"][:10] in page and "2 ranks" in page
    assert re.search(r'<th scope="row">seed</th><td>7</td><td>8</td>', page)
    assert "1.60x" in page and "50.00 %" in page


def charts_of(runs):
    return [chart for section in SECTIONS for chart in section.draw(runs)]


def test_every_chart_is_what_plotly_takes(tmp_path):
    """Its Python classes check every key and value."""
    runs = [write_log(tmp_path / "a.jsonl"), write_planned_log(tmp_path / "b.jsonl")]
    charts = charts_of(runs)
    assert len(charts) > 12
    for chart in charts:
        figure = plotly.graph_objects.Figure({"data": chart.traces, "layout": chart.layout})
        assert figure.layout.xaxis.title.text, chart.title


def test_curves_are_over_seconds_steps_and_bytes(tmp_path):
    charts = {chart.title: chart for chart in charts_of([write_log(tmp_path / "run.jsonl")])}
    ends = {
        over: charts[f"Training loss over {over}"].traces[0]["x"][-1]
        for over in ("seconds", "steps", "bytes")
    }
    assert ends == {"seconds": 3.0, "steps": 30, "bytes": pytest.approx(0.003)}
    assert charts["Accuracy, % over bytes"].traces[0]["y"] == [50.0]
    assert charts["Encoding over steps"].traces[0]["y"] == pytest.approx([10, 10])


def test_bytes_of_each_step_without_counters_are_those_of_a_ring(tmp_path):
    with lgreco.RunLog(tmp_path / "run.jsonl", layers={"w": [10, 100]}, ranks=4) as log:
        for _ in range(3):
            log.step(1.0)
    runs = [read_run_log(tmp_path / "run.jsonl")]
    (chart,) = [chart for chart in charts_of(runs) if chart.title == "Training loss over bytes"]
    assert chart.traces[0]["x"][-1] == pytest.approx(3 * 1.5 * 4000 / 1e6)
    assert summaries(runs)[0].ratio == 1


def test_a_run_of_steps_alone_can_be_reported(tmp_path):
    """Written by hand: what reading.py says is needed, and no more."""
    lines = [{"event": "start", "name": "by hand"}] + [
        {"event": "step", "step": step, "loss": None if step == 2 else 0.5, "seconds": step / 4}
        for step in (1, 2, 3)
    ]
    (tmp_path / "run.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    runs = [read_run_log(tmp_path / "run.jsonl")]
    page = without_library(write_report(runs, tmp_path / "report.html").read_text())
    assert "by hand (not finished)" in page and "250 ms per step" in page
    assert "kB" not in page.split("What the figures mean")[0]
    run("inspect", tmp_path / "run.jsonl")
    comparison_table(runs)


def test_an_unfinished_run_is_reported_until_where_it_is(tmp_path):
    done, stopped = (
        summaries([write_log(tmp_path / f"{finished}.jsonl", finished=finished)])[0]
        for finished in (True, False)
    )
    assert not stopped.finished and stopped.steps == 30
    for name in ("counted", "ratio", "step_s", "encode_s", "plan_gain", "training_loss"):
        assert getattr(stopped, name) == pytest.approx(getattr(done, name)), name


def test_a_run_without_a_step_is_refused(tmp_path):
    lgreco.RunLog(tmp_path / "run.jsonl", name="tiny").__exit__(KeyboardInterrupt, None, None)
    with pytest.raises(lgreco.StateError, match="'tiny' has no step yet"):
        write_report([read_run_log(tmp_path / "run.jsonl")], tmp_path / "report.html")


def test_texts_of_a_log_stay_texts(tmp_path):
    name = "</script><script>alert(1)</script>"
    runs = [write_log(tmp_path / "run.jsonl", name=name, settings={"<b>": "<i>"})]
    page = without_library(write_report(runs, tmp_path / "report.html").read_text())
    assert "alert(1)</script>" not in page and "<b>" not in page and "<i>" not in page


def test_step_times_are_computed_from_the_fastest_compute(tmp_path):
    runs = [write_log(tmp_path / f"{s}.jsonl", compute_s=s) for s in (0.5, 0.05)]
    for summary in summaries(runs):
        # 0.6 seconds of encode and decode and 3,000 bytes in 30 steps
        assert summary.step_at(1e3) == pytest.approx(0.05 + 0.02 + 0.1)


def test_log_keeps_the_estimates(tmp_path):
    run_log = write_planned_log(tmp_path / "run.jsonl")
    plan = lgreco.Plan.from_dict(run_log["plan"][-1])
    assert plan.estimates["head.weight"].chosen.error == 0.5


def test_bytes_and_error_of_each_layer(tmp_path):
    sizes, errors = layers([write_planned_log(tmp_path / "run.jsonl")])
    _, reference, chosen = sizes.traces
    assert chosen["y"] == ["tra…11.self_attention.projection", "head.weight"]
    assert chosen["text"][0].startswith(LONG_NAME)
    assert reference["x"] == pytest.approx([4 * 4 * 128 / 1e3, 4 * 4 * 96 / 1e3])
    quantized = payload_bytes(lgreco.Quantize(4), [64, 32])
    assert chosen["x"] == pytest.approx([3 * 4 * 128 / 1e3, quantized / 1e3])
    _, reference, chosen = errors.traces
    assert reference["x"] == [0.25, 0.25] and chosen["x"] == [0.5, 0.5]
    assert sizes.layout["xaxis"]["type"] == errors.layout["xaxis"]["type"] == "log"


def test_errors_that_were_not_measured_are_not_shown(tmp_path):
    assert len(layers([write_log(tmp_path / "run.jsonl")])) == 1


def test_what_changed_from_plan_to_plan(tmp_path):
    (chart,) = plans([write_planned_log(tmp_path / "run.jsonl")])
    (trace,) = chart.traces
    bits = [math.log10(8 * rank * 4 * 128 / 64**2) for rank in (1, 2, 3)]
    assert trace["z"][0] == pytest.approx(bits, rel=1e-4)
    assert trace["text"] == [["r1", "r2", "r3"], ["q4", "q4", "q4"]]
    assert trace["x"] == ["0", "10", "20"]
    (chart,) = plans([write_planned_log(tmp_path / "run.jsonl", versions=40)])
    assert "texttemplate" not in chart.traces[0]


words = st.sampled_from(
    [
        "encoder",
        "layers",
        "self_attn",
        "in_proj_weight",
        "weight",
        "mlp",
        "a" * 50,
        "0",
        "11",
        "137",
    ]
)


@given(st.lists(st.lists(words, min_size=1, max_size=9).map(".".join), unique=True, max_size=12))
def test_short_names_keep_every_number_and_tell_layers_apart(names):
    short = short_names(names)
    assert len(set(short)) == len(names)
    for name, shown in zip(names, short, strict=True):
        assert re.findall(r"\d+", shown) == re.findall(r"\d+", name)
        if shown != name:
            least = sum(len(number) + 4 for number in re.findall(r"\d+", name))
            assert len(shown) <= max(LONGEST, least + 12)


def test_short_names_of_transformers():
    names = [
        "encoder.layers.11.self_attn.in_proj_weight",
        "encoder.layers.11.self_attn.in_proj_bias",
        "roberta.encoder.layer.23.attention.output.dense.weight",
        "layer1.0.conv1.weight",
    ]
    assert short_names(names) == [
        "enc…11.self_attn.in_proj",
        "enc…11.self_attn.in_proj_bias",
        "rob…23.attention.output.dense",
        "layer1.0.conv1.weight",
    ]


@pytest.mark.parametrize("steps", [2, 18, 300])
def test_the_loss_of_short_runs_is_a_line_too(tmp_path, steps):
    path = tmp_path / "run.jsonl"
    with lgreco.RunLog(path, name="short", layers={"w": [4, 4]}, ranks=2) as log:
        for step in range(1, steps + 1):
            log.step(1 / step, seconds=step / 10)
    for chart in loss([read_run_log(path)]):
        (trace,) = chart.traces
        assert len(trace["x"]) >= min(steps, 270)


def test_the_tables_fit_a_terminal(tmp_path):
    runs = []
    for place, name in enumerate(("dense", "L-GreCo, PowerSGD ranks 2-8")):
        runs.append(write_log(tmp_path / f"{place}.jsonl", name=name))
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(comparison_table(runs))
    shown = console.export_text()
    assert "…" not in shown and "50.00 %" in shown and "L-GreCo, PowerSGD ranks 2-8" in shown

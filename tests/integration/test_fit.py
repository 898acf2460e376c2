"""`foretick fit`, from its arguments on: what it learns, writes, tells and refuses."""

from __future__ import annotations

import csv
import json
import math
import subprocess

import pytest

from commands import foretick
from foretick import cli

START_MS = 1_700_000_000_000
SMALL = ("--set", "model.hidden=8", "--set", "learn.every=4")


@pytest.fixture
def run(tmp_path, monkeypatch, capsys):
    """Runs `foretick …` in an empty folder, in this process: importing torch takes longer than most of what is run."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        capsys.readouterr()
        status = cli.main(arguments)
        out, err = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, out, err)

    return run


@pytest.fixture
def waves(tmp_path):
    """Three series of 200 ticks that only a memory foresees."""
    path = tmp_path / "waves.csv"
    with path.open("w") as file:
        file.write("series,ts,value\n")
        for t in range(200):
            for i, name in enumerate("abc"):
                file.write(f"{name},{START_MS + 60_000 * t},{math.sin(0.7 * t + i) * (i + 1):.6f}\n")
    return path


def table(path, header, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return path


def told(done):
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_what_is_learned_is_written_and_backtests_begin_with_it(tmp_path, run, waves):
    fitted = told(run("fit", str(waves), "--epochs", "3", "--json", *SMALL))
    assert fitted["ticks"] == {"train": 420, "validation": 60, "test": 120}
    losses = [epoch["validation_loss"] for epoch in fitted["epochs"]]
    assert losses[fitted["best_epoch"] - 1] == min(losses)
    assert fitted["test"]["network alone, frozen"]["skill"] > 0.3
    assert fitted["test"]["naive"]["skill"] == 0
    assert fitted["test"]["blend, learning"]["mae_by_series"].keys() == {"a", "b", "c"}

    def early(*flags):
        done = run("backtest", str(waves), "--json", "--burn-in", "15", *SMALL, *flags)
        return told(done)["summary"]["gm"]

    assert early("--set", "model.init=weights.safetensors") < early() - 0.01


def test_the_same_seed_writes_the_same_weights(tmp_path, run, waves):
    def weights(name, seed):
        flags = ("--epochs", "1", "--seed", seed, "--output", name)
        assert run("fit", str(waves), *flags, *SMALL).returncode == 0
        return (tmp_path / name).read_bytes()

    assert weights("one", "3") == weights("two", "3") != weights("three", "4")


def test_a_daemon_refuses_weights_of_another_shape_before_it_connects(tmp_path, run, waves):
    assert run("fit", str(waves), "--epochs", "1", *SMALL).returncode == 0
    flags = ("--redis-url", "redis://127.0.0.1:1", "--set", "model.init=weights.safetensors")
    done = foretick("run", *flags, "--set", "learn.trainer=inline", "--http-port", "0", folder=tmp_path)
    assert done.returncode == 2
    assert "weights.safetensors is of another model: model.hidden was 8, here it is 64" in done.stderr


def test_check_tells_what_a_daemon_would_begin_with(tmp_path, run, waves):
    assert run("fit", str(waves), "--epochs", "1", *SMALL).returncode == 0
    found = run("check", "--set", "model.init=weights.safetensors", "--http-port", "0").stdout
    assert "# model    ok    " in found
    assert "was learned from 420 ticks" in found
    (tmp_path / "weights.safetensors").unlink()
    done = run("check", "--set", "model.init=weights.safetensors", "--http-port", "0")
    assert done.returncode == 2
    assert "weights.safetensors: cannot be read: No such file" in done.stdout


def test_a_group_is_taught_on_its_own_series_and_pictured(tmp_path, run, waves):
    pytest.importorskip("matplotlib")
    groups = '{"[ab]": {"hidden": 8}}'
    flags = ("--group", "[ab]", "--epochs", "1", "--plot", "fit.png", "--json")
    fitted = told(run("fit", str(waves), *flags, "--set", f"groups={groups}"))
    assert fitted["test"]["naive"]["mae_by_series"].keys() == {"a", "b"}
    assert (tmp_path / "fit.png").read_bytes()[:4] == b"\x89PNG"


def test_a_window_foresees_a_sine_to_a_thousandth_and_draws_true_against_predicted(tmp_path, run):
    pytest.importorskip("matplotlib")
    sine = table(tmp_path / "sine.csv", ["value"], [[math.sin(0.1 * t)] for t in range(1000)])
    flags = ("--window", "10", "--epochs", "15", "--batch", "32", "--plot", "sine.png", "--json")
    fitted = told(run("fit", str(sine), *flags))
    assert fitted["test_loss"] <= 1e-3
    assert fitted["targets"]["sine"]["skill"] > 0.5
    assert fitted["pairs"] == {"train": 690, "validation": 100, "test": 200}
    assert (tmp_path / "sine.png").read_bytes()[:4] == b"\x89PNG"


def test_a_window_goes_on_with_what_it_learned(tmp_path, run):
    tens = table(tmp_path / "tens.csv", ["value"], [[10 * t] for t in range(1, 13)])
    flags = ("--window", "3", "--epochs", "300", "--continue", "1", "--json")
    fitted = told(run("fit", str(tens), *flags))
    assert fitted["further"]["tens"] == [[pytest.approx(130, abs=8)]]


def test_a_window_sees_several_columns_and_foretells_others(tmp_path, run):
    rows = [[t % 7, (3 * t) % 11, (t % 7) + (3 * t) % 11] for t in range(200)]
    sums = table(tmp_path / "sums.csv", ["a", "b", "sum"], rows)
    flags = ("--window", "1", "--features", "a,b", "--targets", "sum", "--ahead", "0", "--rate", "0.03", "--json")
    fitted = told(run("fit", str(sums), *flags, "--scaling", "standard", "--cell", "gru"))
    assert fitted["skill"] > 0.9


def test_a_table_is_told_to_people(tmp_path, run, waves):
    done = run("fit", str(waves), "--epochs", "1", *SMALL)
    assert "3 series: 420 ticks to learn from, 60 to choose the epoch, 120 to test" in done.stdout
    assert "begin with it by --set model.init=weights.safetensors" in done.stdout
    done = run("fit", str(waves), "--window", "5", "--epochs", "1")
    assert "lstm, 1 × 32 units, window 5, on cpu" in done.stdout
    assert "µs for a forecast, one by one" in done.stdout


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        (["--cell", "gru"], "--cell is of windowed networks: name --window too"),
        (["--hidden", "8"], "--hidden is of windowed networks: name --window too, or --set model.hidden=… for ours"),
        (["--window", "3", "--output", "x"], "--output and --window exclude each other"),
        (["--window", "3", "--ahead", "0"], "--ahead 0 would show it the answer: value is both a feature and a target"),
        (["--window", "3", "--targets", "x", "--continue", "2"], "the targets have to be the features"),
        (["--window", "3", "--features", "price"], "no column 'price' in its first line, which has series, ts, value"),
        (["--window", "300"], "no series has the 376 rows that --window 300 takes to learn and to test"),
        (["--window", "3", "--device", "cuda"], "--device cannot be cuda: "),
        (["--layers", "9", "--window", "3"], "'9' is no whole number from 1 to 4"),
        (["--split", "2"], "'2' is no share: write a number from 0.1 to 0.95"),
        (["--group", "x"], "--group x: there is no such group, only default"),
        (["--output", "none/x"], "there is no folder"),
        (["--set", "features=open,high"], "fit learns from files with one value a tick, and features are open, high"),
        (["--plot", "x.jpg"], "'x.jpg' is no picture"),
    ],
    ids=lambda value: value.partition(",")[0][:20] if isinstance(value, str) else value[-1][2:12],
)
def test_what_cannot_be_is_refused_in_a_line(tmp_path, run, waves, flags, why):
    if "cuda" in flags and pytest.importorskip("torch").cuda.is_available():
        pytest.skip("there is one")
    done = run("fit", str(waves), *flags)
    assert (done.returncode, done.stdout) == (2, "")
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_too_few_ticks_are_told(tmp_path, run):
    few = table(tmp_path / "few.csv", ["series", "ts", "value"], [["a", START_MS + t, t] for t in range(10)])
    done = run("fit", str(few))
    assert done.returncode == 2
    assert "few.csv: no series has the 20 ticks that it takes to learn and to test" in done.stderr

"""`foretick backtest` over files and streams: what it prints, draws, and refuses."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace

import pytest
import torch

from commands import foretick
from foretick.app import backtest
from foretick.app.settings import Settings
from foretick.errors import RedisUnreachable, UsageError
from foretick.ports.embedded import free_port
from servers import missing

SETTINGS = Settings(model={"hidden": 8}, season="none")
HOUR_MS = 3_600_000


@pytest.fixture(autouse=True)
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def asked(tmp_path, capsys):
    """Runs a backtest in this process; exit status and what was printed."""

    def run(*files, settings=SETTINGS, **options):
        defaults = {
            "burn_in": 40,
            "by": None,
            "json": False,
            "plot": None,
            "html": None,
            "series": "worst",
            "verify": False,
        }
        status = backtest.run(settings, SimpleNamespace(files=[str(file) for file in files], **defaults | options))
        return status, capsys.readouterr().out

    return run


def values(i):
    """A wave that can be learned, and one jagged series."""
    return {"wave": math.sin(i / 5), "saw": (i * 7) % 5}


@pytest.fixture
def recording(tmp_path):
    path = tmp_path / "a.csv"
    rows = [f"{name},{name},{i * HOUR_MS},{value!r}\n" for i in range(150) for name, value in values(i).items()]
    path.write_text("source,series,ts,value\n" + "".join(rows) + "saw,saw,1,x\n")
    return path


def test_the_json_has_every_score_of_every_series(asked, recording):
    status, text = asked(recording, json=True, settings=SETTINGS.model_copy(update={"season": "auto"}))
    assert status == 0
    found = json.loads(text)
    wave = found["series"]["wave"]
    assert (wave["ticks"], wave["scored"], wave["source"], wave["season_ticks"]) == (150, 109, "wave", 24)
    assert wave["rel_mae"] == pytest.approx(wave["mae"] / wave["naive_mae"])
    assert wave["skill"] == pytest.approx(1 - wave["rel_mae"])
    assert wave["skill"] > 0.5
    assert {"rel_rmse", "mase", "seasonal_mae"} <= wave.keys()
    assert set(wave["coverage"]) == {"0.8", "0.95"}
    assert all(0 < share <= 1 for share in wave["coverage"].values())
    assert list(wave["experts"])[:2] == ["naive", "seasonal_naive"]
    assert sum(wave["experts"].values()) == pytest.approx(1, abs=1e-4)
    assert {"gm", "bal", "harm", "worst", "coverage"} <= found["summary"].keys()
    assert found["unusable"] == 1


def test_the_table_is_by_source_where_there_are_several_and_by_series_on_demand(asked, recording):
    by_source, by_series = asked(recording)[1].splitlines(), asked(recording, by="series")[1].splitlines()
    assert by_source[0].split() == ["source", "series", "ticks", "rel-MAE", "seasonal", "harmed", "worst", "80%", "95%"]
    assert [line.split()[0] for line in by_source[1:3]] == ["saw", "wave"]
    assert by_series[0].split() == ["series", "ticks", "MAE", "naive", "seasonal", "rel-MAE", "80%", "95%"]
    assert {line.split()[0] for line in by_series[1:3]} == {"saw", "wave"}
    assert "set aside: 1 unusable" in by_series[-1]
    assert any(line.startswith("2 series, scored after their first 40 ticks") for line in by_series)


def test_a_series_too_short_to_be_scored_is_told_as_unknown(asked, recording):
    status, text = asked(recording, json=True, burn_in=1000)
    assert status == 0
    wave = json.loads(text)["series"]["wave"]
    assert (wave["scored"], wave["mae"], wave["coverage"]) == (0, None, {"0.8": None, "0.95": None})
    assert asked(recording, by="series", burn_in=1000)[0] == 0


def test_a_picture_of_a_series_is_drawn(asked, recording, tmp_path):
    try:
        import matplotlib.image
    except ImportError:
        missing("matplotlib")
    path = tmp_path / "out.png"
    assert asked(recording, plot=path, series="best")[0] == 0
    pixels = matplotlib.image.imread(path)
    assert pixels.shape[0] > 500
    assert pixels.std() > 0.05
    with pytest.raises(UsageError, match="there is no series 'none'"):
        asked(recording, plot=path, series="none")


@pytest.mark.parametrize(("name", "why"), [("a.bmp", "ends with .png"), ("none/a.png", "there is no folder")])
def test_where_no_picture_can_be_written_is_told_before_the_work(asked, recording, tmp_path, name, why):
    with pytest.raises(UsageError, match=why):
        asked(recording, plot=tmp_path / name)


def test_a_recorded_stream_is_scored_as_the_same_ticks_in_a_file(asked, recording, redis_server):
    client = redis_server.client()
    for i in range(150):
        for name, value in values(i).items():
            client.xadd("a", {"s": name, "v": repr(value), "ts": i * HOUR_MS}, id=f"{i * HOUR_MS}-*" if i else "0-*")
    client.xadd("a", {"s": "saw", "v": "x"})
    of_file = SETTINGS.model_copy(update={"streams": ("a",)})
    fields = SETTINGS.fields.model_copy(update={"series": "s", "value": "v"})
    of_stream = SETTINGS.model_copy(update={"fields": fields})
    address = f"{redis_server.url}?stream=a"
    expected = json.loads(asked(recording, json=True, settings=of_file)[1])
    found = json.loads(asked(address, json=True, settings=of_stream)[1])
    assert found["refused"] == {"not_a_number": 1}
    for one in (*expected["series"].values(), *found["series"].values()):
        del one["source"]
    assert found["series"] == expected["series"]
    assert client.keys() == [b"a"]


def test_what_cannot_be_backtested_is_one_line_and_its_status(asked, recording, redis_server):
    with pytest.raises(UsageError, match="there is no stream ticks"):
        asked(f"{redis_server.url}?stream=ticks")
    with pytest.raises(UsageError, match="by itself"):
        asked(f"{redis_server.url}?stream=ticks", recording)
    with pytest.raises(UsageError, match="redis:// address"):
        asked(recording, verify=True)
    with pytest.raises(UsageError, match="no such option"):
        asked("redis://h/0?stream=ticks&protocol=3")
    with pytest.raises(RedisUnreachable):
        asked(f"redis://127.0.0.1:{free_port()}/ticks")


def test_the_command_prints_its_table(recording, tmp_path):
    done = foretick(
        "backtest", str(recording), "--burn-in", "40", folder=tmp_path, model__hidden=8, learn__enabled=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("source")

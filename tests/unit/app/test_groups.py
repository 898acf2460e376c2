"""Groups in the settings: how they are written, what they override, which series they fit, what is wrong with them."""

from __future__ import annotations

import json
import tomllib
from typing import TYPE_CHECKING

import pytest

from foretick.app.check import setting_lines
from foretick.app.groups import GROUPS_MAX, OVERRIDES, group_finder, groups_of, learn_schedule, settings_of
from foretick.app.settings import Settings, catalogue, value_of
from foretick.app.settings_load import Loaded, load
from foretick.app.settings_sources import Flag
from foretick.errors import UsageError
from foretick.ports.wire import series_key

if TYPE_CHECKING:
    from pathlib import Path

BOILERS = """
model.hidden = 16
[groups."boiler-*"]
hidden = 32
layers = 2
season = "24h"
learn.enabled = false
[groups."pump?"]
learn.every = 16
seed = 3
"""


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def loaded(text: str, tmp_path: Path) -> Loaded:
    path = tmp_path / "groups.toml"
    path.write_text(text)
    return load(config=path, environ={})


def complaint(text: str, tmp_path: Path) -> str:
    with pytest.raises(UsageError) as caught:
        loaded(text, tmp_path)
    return str(caught.value)


def test_a_group_overrides_what_it_names_and_shares_the_rest(tmp_path: Path) -> None:
    settings = loaded(BOILERS, tmp_path).settings
    assert groups_of(settings) == ["boiler-*", "pump?", "default"]
    boilers, pumps, others = (settings_of(settings, group) for group in groups_of(settings))
    assert (boilers.model.hidden, boilers.model.layers, boilers.season) == (32, 2, (86400.0,))
    assert (boilers.learn.enabled, boilers.learn.every, boilers.model.seed) == (False, 8, 0)
    assert (pumps.model.hidden, pumps.model.layers, pumps.season) == (16, 1, "auto")
    assert (pumps.learn.enabled, pumps.learn.every, pumps.model.seed) == (True, 16, 3)
    assert others == settings
    assert learn_schedule(settings) == {"boiler-*": 0, "pump?": 16, "default": 8}


def test_every_override_names_a_setting() -> None:
    assert set(OVERRIDES.values()) <= set(catalogue())


@pytest.mark.parametrize("source", ["environment", "flag"])
def test_groups_are_json_where_there_is_no_table(source: str) -> None:
    text = json.dumps({"a*": {"hidden": 24, "learn.every": 3, "learn": {"enabled": False}}, "b": {}})
    flags, environ = (
        ([Flag("groups", text, "--set groups")], {}) if source == "flag" else ([], {"FORETICK_GROUPS": text})
    )
    settings = load(flags, environ=environ).settings
    assert settings.groups == {"a*": {"hidden": 24, "learn.every": 3, "learn.enabled": False}, "b": {}}


def test_a_later_source_replaces_all_groups_of_an_earlier_one(tmp_path: Path) -> None:
    (tmp_path / "foretick.toml").write_text(BOILERS)
    assert load([Flag("groups", "{}", "--set groups")], environ={}).settings.groups == {}


def test_check_prints_each_override_with_its_origin_as_toml_that_reads_back(tmp_path: Path) -> None:
    first = loaded(BOILERS + '[groups."with \\"quotes\\""]\n', tmp_path)
    lines = list(setting_lines(first))
    assert any(line.startswith('groups."boiler-*".season = ["1d"]') and line.endswith("groups.toml") for line in lines)
    printed = "\n".join(lines)
    tomllib.loads(printed)
    again = loaded(printed, tmp_path).settings
    assert value_of(again, "groups") == value_of(first.settings, "groups")
    assert list(again.groups) == list(first.settings.groups)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('[groups."a*"]\nhiden = 8', 'groups."a*".hiden ({}) is no setting of a group: did you mean hidden?'),
        (
            '[groups."a*"]\nmodel.hidden = 8',
            'groups."a*".model.hidden ({}) is no setting of a group: did you mean hidden?',
        ),
        (
            '[groups."a*"]\nbatch = 8',
            'groups."a*".batch ({}) is no setting of a group: write one of ' + ", ".join(OVERRIDES),
        ),
        (
            '[groups."a*"]\nhidden = 33',
            'groups."a*".hidden cannot be 33 ({}): write a multiple of 8 up to 1024, such as 64',
        ),
        ('[groups."a*"]\nlayers = 4', 'groups."a*".layers cannot be 4 ({}): write a number of layers from 1 to 3'),
        (
            '[groups."a*"]\nlayers = true',
            'groups."a*".layers cannot be true ({}): true and false are no numbers; write a ',
        ),
        (
            '[groups."a*"]\nseason = "weekly"',
            'groups."a*".season cannot be "weekly" ({}): this is no duration; write auto, ',
        ),
        ('[groups."a*"]\nlearn = 5', 'groups."a*".learn ({}) is no setting of a group: write one of features, '),
        ("groups.x = 5", 'groups."x" cannot be 5 ({}): write a table, such as {{hidden = 32}}'),
        ("groups = 5", 'groups cannot be 5 ({}): write a table [groups."boiler-*"] with lines '),
        ('[groups.""]', 'groups."" ({}): a pattern has 1 to 200 characters'),
        ('[groups."a\\u0000"]', 'groups."a\\u0000" ({}): a pattern has 1 to 200 characters'),
        ("[groups.default]", 'groups."default" ({}): this is the group of all series that fit no pattern'),
        ('[groups."a[bc"]', 'groups."a[bc" ({}): a [ has no ] behind it'),
        ('[groups."*"]\n[groups."a"]', 'groups."a" ({}): no series is left for it behind groups."*", which fits all'),
    ],
)
def test_what_is_wrong_with_a_group_is_one_line_with_name_place_and_remedy(
    tmp_path: Path, lines: str, message: str
) -> None:
    said = complaint(lines, tmp_path)
    assert said.startswith(message.format(f"file {tmp_path / 'groups.toml'}"))
    assert len(said.splitlines()) == 1


def test_all_that_is_wrong_with_groups_is_told_at_once(tmp_path: Path) -> None:
    said = complaint('batch = 0\n[groups."a"]\nhidden = 3\nfoo = 1\n[groups."b["]\n', tmp_path)
    assert [line.split()[0] for line in said.splitlines()] == [
        'groups."a".hidden',
        'groups."a".foo',
        'groups."b["',
        "batch",
    ]


def test_there_are_a_hundred_groups_at_most() -> None:
    groups = json.dumps({f"g{i}": {} for i in range(GROUPS_MAX + 1)})
    with pytest.raises(UsageError, match="101: 100 at most"):
        load([Flag("groups", groups, "--set groups")], environ={})


def test_the_first_pattern_that_fits_series_or_stream_wins() -> None:
    find = group_finder(["boiler-*", "[bk]*", "pump?", "site:*"])
    told = {
        (b"ticks", b"boiler-7"): "boiler-*",
        (b"ticks", b"boiler"): "[bk]*",
        (b"ticks", b"Boiler-7"): "default",
        (b"ticks", "pumpé".encode()): "pump?",
        (b"ticks", b"pump12"): "default",
        (b"site:1", b"x"): "site:*",
        (b"site:1", b"kiln"): "[bk]*",
        (b"boiler-9", b"boiler-9"): "boiler-*",
        (b"ticks", b"\xff"): "default",
    }
    assert {pair: find(series_key(*pair)) for pair in told} == told


def test_a_bracket_itself_can_be_meant() -> None:
    find = group_finder(list(Settings(groups={"a[[]1]": {}}).groups))
    assert find(series_key(b"ticks", b"a[1]")) == "a[[]1]"


def test_without_groups_there_is_one() -> None:
    assert groups_of(Settings()) == ["default"]

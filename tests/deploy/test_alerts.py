"""Each alert of rules.yaml fires on its day and is silent on others, and leads to a runbook that exists."""

from __future__ import annotations

import re
import subprocess

import pytest

from monitoring import RULE_TESTS, RULES, RUNBOOK, anchors, binary, read_yaml, rules

ALERTS = rules("alert")
ASKED_FOR = {
    *("SkillBelowNaive", "CoverageOff", "ForecastsStale", "LagGrowing", "DeadLettersRising", "CheckpointStale"),
    *("LeaseFlapping", "LearningStalled", "RedisUnreachable", "InstanceDown", "HighLatency"),
}


def test_every_alert_fires_and_is_silent_where_promtool_says_so():
    for command in (["check", "rules", RULES], ["test", "rules", RULE_TESTS]):
        found = subprocess.run([binary("promtool"), *command], capture_output=True, text=True, check=False)
        assert found.returncode == 0, found.stdout + found.stderr


@pytest.mark.parametrize("name", ALERTS)
def test_promtool_is_shown_a_day_on_which_it_fires_and_one_on_which_it_does_not(name):
    shown = [
        (bool(one["exp_alerts"]), len({str(series) for series in test["input_series"]}))
        for test in read_yaml(RULE_TESTS)["tests"]
        for one in test.get("alert_rule_test", [])
        if one["alertname"] == name
    ]
    assert any(fires for fires, _ in shown), "no test fires it"
    quiet_series = any(fires and series > 2 for fires, series in shown)  # others stay silent on the same day
    assert quiet_series or any(not fires for fires, _ in shown), "no test keeps it silent"


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_tells_how_bad_what_and_where_to_read_on(name):
    rule = ALERTS[name]
    assert rule["labels"]["severity"] in ("critical", "warning")
    assert rule["labels"]["service"] == "foretick"
    notes = rule["annotations"]
    assert notes["summary"]
    assert notes["description"].endswith(".")
    page, _, anchor = notes["runbook_url"].partition("#")
    assert page
    assert anchor == name.lower()
    assert anchor in anchors(RUNBOOK)


def test_all_alerts_that_were_asked_for_are_there_and_all_stand_in_the_runbooks_table():
    assert set(ALERTS) >= ASKED_FOR
    table = dict(re.findall(r"^\| \[(\w+)\]\(#\w+\) \| (\w+) \|", RUNBOOK.read_text(), re.MULTILINE))
    assert table == {name: rule["labels"]["severity"] for name, rule in ALERTS.items()}

"""The units in a real systemd: `make systemd-test`."""

from __future__ import annotations

import re
import time

import pytest

from machines import Machine
from servers import wait_until

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]

PASSWORD = "a-word-nobody-may-see"
UNIT = "foretick.service"
FORECASTS = "foretick:{ticks}:forecasts"
SERIES = 20
SETTINGS = 'redis.url = "redis://127.0.0.1:6379"\nlearn.every = 8\n'


@pytest.fixture(scope="module")
def machine():
    """One machine with a Redis that wants a password; the tests of this module go on where the one before stopped."""
    made = Machine()
    made("redis-cli", "config", "set", "requirepass", PASSWORD)
    made.write("/etc/credstore/foretick.redis-password", f"{PASSWORD}\n")
    made("chmod", "600", "/etc/credstore/foretick.redis-password")
    made.write("/etc/foretick/foretick.toml", SETTINGS)
    yield made
    made.close()


@pytest.fixture(autouse=True)
def _journal(machine):
    yield
    print(
        machine.ask("journalctl", "--unit=foretick*", "--unit=foretick@*", "--no-pager", "--lines=60", "--output=cat")
    )


def redis(machine, *command, given=None):
    return machine("env", f"REDISCLI_AUTH={PASSWORD}", "redis-cli", *command, given=given)


def push(machine, count):
    ticks = "".join(f"XADD ticks * series s{n % SERIES} value {n * n % 97}\n" for n in range(count))
    redis(machine, given=ticks)


def all_answered(machine):
    ticks, forecasts = redis(machine, "xlen", "ticks"), redis(machine, "xlen", FORECASTS)
    return ticks == forecasts


def ids(machine, stream):
    """Every id of a stream, in its order."""
    return re.findall(r"^\d+-\d+$", redis(machine, "xrange", stream, "-", "+"), re.MULTILINE)


def test_it_starts_with_the_password_of_a_credential_and_is_ready_when_systemd_says_so(machine):
    push(machine, 2000)
    machine("systemctl", "start", UNIT)
    assert machine("curl", "--silent", "127.0.0.1:9464/readyz") == "ok"
    assert machine.show(UNIT, "StatusText").startswith("ready: default")
    wait_until(lambda: all_answered(machine), 60, "the history's forecasts")


def test_nobody_sees_the_password(machine):
    journal = machine("journalctl", "--unit", UNIT, "--no-pager")
    environment = machine("cat", f"/proc/{machine.show(UNIT, 'MainPID')}/environ")
    assert "starting" in journal
    assert PASSWORD not in journal + environment + machine("systemctl", "show", UNIT)


def test_hardened_as_it_is_the_lstm_learns_beside_the_loop(machine):
    push(machine, 2000)
    wait_until(lambda: all_answered(machine), 60, "the forecasts")
    metrics = machine("curl", "--silent", "127.0.0.1:9464/metrics").splitlines()
    steps = next(float(line.split()[1]) for line in metrics if line.startswith("foretick_learn_steps_total"))
    assert steps > 0
    assert "foretick_trainer_restarts_total 0.0" in metrics
    assert any(line.startswith("process_resident_memory_bytes") for line in metrics)
    daemon, trainer = machine("ps", "-C", "foretick,python3", "-o", "ni=").split()  # systemd lends its own niceness
    assert int(daemon) < int(trainer) == 19


def test_a_reload_takes_up_what_can_change_live(machine):
    before = machine.show(UNIT, "MainPID")
    machine.write("/etc/foretick/foretick.toml", SETTINGS + 'log.level = "debug"\n')
    machine("systemctl", "reload", UNIT)
    wait_until(lambda: "settings_reloaded" in machine("journalctl", "--unit", UNIT, "--no-pager"), 20, "the reload")
    assert machine.show(UNIT, "MainPID") == before


def test_it_runs_as_a_user_of_its_own_with_little_exposure(machine):
    assert 61184 <= int(machine("ps", "-o", "uid=", "-p", machine.show(UNIT, "MainPID"))) <= 65519  # dynamic users
    last = machine.ask("systemd-analyze", "security", UNIT).splitlines()[-1]
    assert float(last.split(":")[1].split()[0]) <= 1.5


def test_a_wedged_loop_is_killed_by_the_watchdog_and_comes_back_with_no_tick_lost_or_doubled(machine):
    machine.write("/run/systemd/system/foretick.service.d/hasty.conf", "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\n")
    machine("systemctl", "daemon-reload")
    machine("systemctl", "restart", UNIT)
    restarts = int(machine.show(UNIT, "NRestarts"))
    push(machine, 500)
    machine("kill", "-STOP", machine.show(UNIT, "MainPID"))
    push(machine, 500)
    wait_until(lambda: int(machine.show(UNIT, "NRestarts")) > restarts, 60, "a restart")
    assert "watchdog" in machine("journalctl", "--unit", UNIT, "--no-pager", "--lines=100").lower()
    wait_until(lambda: machine.show(UNIT, "ActiveState") == "active", 90, "the new start")
    wait_until(lambda: all_answered(machine), 90, "the forecasts of all ticks")
    assert ids(machine, FORECASTS) == ids(machine, "ticks")


def test_a_stop_is_clean_quick_and_leaves_no_lease(machine):
    begun = time.monotonic()
    machine("systemctl", "stop", UNIT)
    seconds = time.monotonic() - begun
    assert machine.show(UNIT, "Result") == "success"
    assert machine.show(UNIT, "ExecMainStatus") == "0"
    assert redis(machine, "exists", "foretick:{default}:lease") == "0"
    assert seconds < 15


def test_wrong_settings_are_not_tried_again(machine):
    machine.write("/etc/foretick/foretick.toml", SETTINGS + 'straems = "ticks"\n')
    assert machine.ask("sh", "-c", f"systemctl start {UNIT} 2>&1 || echo refused").endswith("refused")
    assert machine.show(UNIT, "ExecMainStatus") == "2"
    assert machine.show(UNIT, "ActiveState") == "failed"
    assert "did you mean" in machine("journalctl", "--unit", UNIT, "--no-pager", "--lines=5")


def test_an_instance_has_its_own_settings_and_state(machine):
    own = 'prefix = "pumps"\nstart = "latest"\nhttp.port = 9465\n'
    store = 'checkpoint.store = "/var/lib/foretick-pumps/checkpoints"\n'
    machine.write("/etc/foretick/pumps.toml", SETTINGS + own + store)
    machine("cp", "/etc/credstore/foretick.redis-password", "/etc/credstore/foretick-pumps.redis-password")
    machine("systemctl", "start", "foretick@pumps")
    push(machine, 100)
    wait_until(lambda: redis(machine, "xlen", "pumps:{ticks}:forecasts") == "100", 60, "the instance's forecasts")
    machine("systemctl", "stop", "foretick@pumps")
    assert machine.show("foretick@pumps", "Result") == "success"
    assert machine("sh", "-c", "ls /var/lib/private/foretick-pumps/checkpoints/*/*.safetensors")

"""Lines, levels, repeats, secrets: the limiter with a clock of ours, all else in a process of its own."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from foretick.ports.logs import REPEATS_MAX, SUPPRESSED, WINDOW_SECONDS, LineWriter, RepeatLimiter, readable


class Bench:
    """A limiter with a clock, a timer and an ear."""

    def __init__(self):
        self.now = 0.0
        self.told = []
        self.timers = []
        self.limiter = RepeatLimiter(
            lambda **summary: self.told.append(summary),
            clock=lambda: self.now,
            schedule=lambda seconds, act: self.timers.append((self.now + seconds, act)),
        )

    def log(self, event="redis_refused", level="warning"):
        """Whether the line passed."""
        try:
            self.limiter(None, level, {"event": event, "level": level})
        except structlog.DropEvent:
            return False
        return True

    def wait(self, seconds):
        self.now += seconds
        for due, act in [timer for timer in self.timers if timer[0] <= self.now]:
            self.timers.remove((due, act))
            act()


@pytest.fixture
def bench():
    return Bench()


def test_five_of_the_same_pass_and_the_rest_are_counted(bench):
    assert [bench.log() for _ in range(8)] == [True] * 5 + [False] * 3
    assert bench.told == []


def test_the_count_is_told_once_when_the_window_ends_and_nobody_logs_any_more(bench):
    for _ in range(8):
        bench.log()
    bench.wait(WINDOW_SECONDS)
    assert bench.told == [{"level": "warning", "event": "redis_refused", "count": 3}]
    bench.wait(WINDOW_SECONDS)
    assert len(bench.told) == 1


def test_after_the_window_the_event_passes_again(bench):
    for _ in range(8):
        bench.log()
    bench.now += WINDOW_SECONDS
    assert bench.log("another")
    assert bench.told[0]["count"] == 3
    assert [bench.log() for _ in range(6)] == [True] * 5 + [False]


def test_levels_and_events_are_counted_apart(bench):
    for _ in range(REPEATS_MAX):
        assert bench.log("a", "warning")
        assert bench.log("a", "error")
        assert bench.log("b", "warning")
    assert not bench.log("a", "error")


def test_five_alone_need_no_summary_and_no_timer(bench):
    for _ in range(REPEATS_MAX):
        bench.log()
    bench.wait(WINDOW_SECONDS)
    bench.limiter.flush()
    assert (bench.told, bench.timers) == ([], [])


def test_the_summary_itself_is_never_kept_back(bench):
    assert all(bench.log(SUPPRESSED) for _ in range(20))


def test_at_exit_what_was_kept_back_is_told(bench):
    for _ in range(7):
        bench.log()
    bench.limiter.flush()
    assert bench.told[0]["count"] == 2


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 6)), max_size=60))
def test_every_line_either_passes_or_is_counted(lines):
    bench = Bench()
    passed = 0
    for event, pause in lines:
        bench.wait(pause)
        passed += bench.log(event)
    bench.limiter.flush()
    assert passed + sum(summary["count"] for summary in bench.told) == len(lines)


def test_threads_count_together():
    told = []
    limiter = RepeatLimiter(lambda **summary: told.append(summary), clock=lambda: 0.0, schedule=lambda *_: None)
    passed = []

    def log():
        for _ in range(200):
            try:
                limiter(None, "info", {"event": "x", "level": "info"})
                passed.append(1)
            except structlog.DropEvent:
                pass

    threads = [threading.Thread(target=log) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limiter.flush()
    assert (len(passed), told[0]["count"]) == (REPEATS_MAX, 795)


class Odd:
    def __str__(self):
        return "odd redis://u:hunter2@h"


def test_every_value_becomes_json_and_no_password_stays():
    numpy = pytest.importorskip("numpy")
    line = readable(
        None,
        "info",
        {
            "url": "redis://u:hunter2@h",
            "password": "hunter2",
            "nested": {"redis_password": "hunter2", "list": ["unix://:hunter2@/s", (1, 2.5)]},
            "stream": b"ti\xffcks",
            "nan": float("nan"),
            "count": numpy.int64(3),
            "share": numpy.float32(0.5),
            "odd": Odd(),
            "none": None,
            "yes": True,
            "event": "e",
            "level": "info",
        },
    )
    assert json.loads(json.dumps(line, allow_nan=False)) == {
        "level": "info",
        "event": "e",
        "url": "redis://u:***@h",
        "password": "***",
        "nested": {"redis_password": "***", "list": ["unix://:***@/s", [1, 2.5]]},
        "stream": "ti\\xffcks",
        "nan": "nan",
        "count": 3,
        "share": 0.5,
        "odd": "odd redis://u:***@h",
        "none": None,
        "yes": True,
    }
    assert list(line)[:2] == ["level", "event"]


def test_a_full_disk_loses_lines_and_nothing_else():
    program = (
        "import structlog; from foretick.ports.logs import configure_logging\n"
        "configure_logging('info', 'auto'); log = structlog.get_logger()\n"
        "for i in range(5000): log.info(f'event_{i}', text='x' * 50)\n"
        "print('alive')"
    )
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program], check=False, stdout=subprocess.PIPE, stderr=full, text=True, timeout=60
        )
    assert (done.returncode, done.stdout) == (0, "alive\n")


def test_a_closed_stream_loses_the_line_and_nothing_else(tmp_path):
    closed = (tmp_path / "log").open("w")
    closed.close()
    LineWriter(closed).error("lost")


def logged(program: str, level: str = "info", form: str = "auto") -> str:
    """What a process writes to standard error when it logs like this."""
    start = (
        "import logging, warnings, structlog\n"
        "from foretick.ports.logs import configure_logging\n"
        f"configure_logging({level!r}, {form!r})\nlog = structlog.get_logger()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", start + program], check=False, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "")
    return done.stderr


def records(program: str, level: str = "info") -> list[dict[str, object]]:
    return [json.loads(line) for line in logged(program, level).splitlines()]


def test_off_a_terminal_each_line_is_json_with_time_level_and_event_first():
    (line,) = records("log.info('daemon_started', stream='ticks', port=9464)")
    assert list(line) == ["timestamp", "level", "event", "stream", "port"]
    assert (line["level"], line["event"], line["port"]) == ("info", "daemon_started", 9464)
    assert datetime.fromisoformat(str(line["timestamp"])).utcoffset() == timedelta(0)


def test_lines_below_the_level_are_not_written():
    program = "log.debug('a'); log.info('b'); log.warning('c'); log.error('d')"
    assert [line["event"] for line in records(program, "warning")] == ["c", "d"]
    assert [line["event"] for line in records(program, "debug")] == ["a", "b", "c", "d"]


def test_repeats_are_kept_back_and_told_at_the_end():
    lines = records("for i in range(1000): log.warning('redis_refused', i=i)")
    assert [line["event"] for line in lines] == ["redis_refused"] * 5 + [SUPPRESSED]
    assert (lines[-1]["of"], lines[-1]["count"], lines[-1]["level"]) == ("redis_refused", 995, "warning")


def test_an_exception_is_a_structure_without_locals_and_passwords():
    (line,) = records(
        "password = 'hunter2'\n"
        "try:\n    raise ValueError('redis://u:hunter2@h refused')\n"
        "except ValueError:\n    log.exception('turn_failed')"
    )
    (failure,) = line["exception"]
    assert (failure["exc_type"], failure["exc_value"]) == ("ValueError", "redis://u:***@h refused")
    assert failure["frames"][0]["lineno"] > 0
    assert "hunter2" not in json.dumps(line)


def test_other_libraries_and_warnings_take_the_same_road():
    lines = records(
        "logging.getLogger('redis').warning('lost %s', 'redis://:hunter2@h')\n"
        "logging.getLogger('redis').log(25, 'between')\n"
        "logging.getLogger('redis').error('two %s', 1, 2)\n"
        "warnings.warn('old')\n"
        "try:\n    1 / 0\nexcept ZeroDivisionError:\n    logging.exception('failed')"
    )
    assert [(line["level"], line["logger"]) for line in lines] == [
        ("warning", "redis"),
        ("info", "redis"),
        ("error", "redis"),
        ("warning", "py.warnings"),
        ("error", "root"),
    ]
    assert lines[0]["event"] == "lost redis://:***@h"
    assert lines[-1]["exception"][0]["exc_type"] == "ZeroDivisionError"


def test_console_off_a_terminal_has_no_colours_and_json_needs_no_terminal():
    text = logged("log.info('daemon_started', port=1)", form="console")
    assert "daemon_started" in text
    assert "port=1" in text
    assert "\x1b" not in text


def test_the_console_shows_a_plain_traceback_without_passwords():
    text = logged(
        "password = 'hunter2'\n"
        "try:\n    raise ValueError('redis://u:hunter2@h')\nexcept ValueError:\n    log.exception('turn_failed')",
        form="console",
    )
    assert "ValueError: redis://u:***@h" in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    ("no_colour", "form", "expected"), [("", "auto", "\x1b["), ("1", "auto", "daemon_started"), ("", "json", "{")]
)
def test_on_a_terminal_lines_are_coloured_unless_told_otherwise(no_colour, form, expected):
    ours, theirs = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"}
    program = (
        "import structlog; from foretick.ports.logs import configure_logging\n"
        f"configure_logging('info', {form!r}); structlog.get_logger().info('daemon_started')"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        stderr=theirs,
        check=True,
        timeout=60,
        env=environment | ({"NO_COLOR": no_colour} if no_colour else {}),
    )
    os.close(theirs)
    text = os.read(ours, 4096).decode()
    os.close(ours)
    assert expected in text
    assert ("\x1b[" in text) == (expected == "\x1b[")

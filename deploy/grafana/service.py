"""The dashboard *Service*: whether the daemons work, how fast, how far behind, and what they had to bear."""

from __future__ import annotations

from panels import About, Bounds, Page, Query

HERE = 'job=~"$job", instance=~"$instance"'
IN_STREAM = f'{HERE}, stream=~"$stream"'
NONE_IS_GOOD: Bounds = [(None, "green"), (1, "red")]


def rate(metric: str, by: str, chosen: str = HERE) -> str:
    """The rate of a counter, added up but for these labels."""
    return f"sum by ({by}) (rate(foretick_{metric}{{{chosen}}}[$__rate_interval]))"


def quantile(q: float, metric: str, by: str = "") -> str:
    """A quantile of a histogram, over all chosen daemons."""
    return f"histogram_quantile({q}, {rate(f'{metric}_bucket', f'{by}, le' if by else 'le')})"


def risen(metric: str, by: str = "instance") -> str:
    """What a counter of rare events rose by, in the step of the chart."""
    return f"sum by ({by}) (increase(foretick_{metric}{{{HERE}}}[$__rate_interval]))"


def fill(page: Page) -> None:
    """Put the rows on the page that tell of the ticks."""
    _glance(page)
    _speed(page)
    _throughput(page)
    _lag(page)


def _glance(page: Page) -> None:
    page.row("Now")
    page.number(
        About(
            "Daemons up", "Daemons that answer Prometheus.", "instancedown", "short", [(None, "red"), (1, "green")], 3
        ),
        Query(f"sum(up{{{HERE}}})", "up"),
    )
    page.number(
        About("Alerts", "Alerts of rules.yaml that fire now.", "alerts", "short", NONE_IS_GOOD, 3),
        Query('count(ALERTS{alertstate="firing", service="foretick"}) or vector(0)', "firing"),
    )
    page.number(
        About(
            "Conditions that fail",
            "Conditions of /readyz that do not hold. A standby, which owns nothing, fails one by design.",
            "conditions",
            "short",
            NONE_IS_GOOD,
            3,
        ),
        Query(f"count(foretick_condition_ok{{{HERE}}} == 0) or vector(0)", "fail"),
    )
    page.number(
        About("Ticks", "Entries read and answered, by a forecast or a dead letter.", "forecastsstale", "cps", width=3),
        Query(f"sum(rate(foretick_ticks_total{{{HERE}}}[$__rate_interval]))", "ticks"),
    )
    page.number(
        About(
            "Latency, p99",
            "From a live tick's arrival in Redis to the commit of its forecast; 99 of 100 are faster.",
            "highlatency",
            "s",
            [(None, "green"), (0.25, "orange"), (1, "red")],
            3,
        ),
        Query(quantile(0.99, "tick_latency_seconds"), "p99"),
    )
    page.number(
        About(
            "Oldest unread tick",
            "The age of the oldest tick that is not yet read, over all streams.",
            "laggrowing",
            "s",
            [(None, "green"), (10, "orange"), (60, "red")],
            3,
        ),
        Query(f"max(foretick_stream_lag_seconds{{{HERE}}})", "age"),
    )
    page.number(
        About(
            "Dead letters",
            "The share of the range's ticks that were set aside as unusable.",
            "deadlettersrising",
            "percentunit",
            [(None, "green"), (0.001, "orange"), (0.01, "red")],
            3,
            decimals=2,
        ),
        Query(
            f"1 - sum(increase(foretick_forecasts_total{{{HERE}}}[$__range])) "
            f"/ sum(increase(foretick_ticks_total{{{HERE}}}[$__range]))",
            "share",
        ),
        whole_range=True,
    )
    page.number(
        About("Version", "Versions that run, and of torch.", "versions", "short", width=3),
        Query(f"count by (version, torch) (foretick_build_info{{{HERE}}})", "{{version}}, torch {{torch}}"),
        names=True,
    )


def _speed(page: Page) -> None:
    page.row("How fast")
    page.lines(
        About(
            "Latency",
            "From a live tick's arrival in Redis to the commit of its forecast.",
            "highlatency",
            "s",
            [(None, "green"), (1, "red")],
        ),
        *(Query(quantile(q, "tick_latency_seconds"), f"p{q * 100:g}") for q in (0.5, 0.9, 0.99)),
        low=0,
    )
    page.heat(
        About(
            "Latency, all of it",
            "How many ticks had which latency: a second band is a second cause.",
            "highlatency",
            "s",
        ),
        Query(rate("tick_latency_seconds_bucket", "le"), "{{le}}"),
    )
    mean = f"{rate('turn_seconds_sum', 'stage')} / {rate('turn_seconds_count', 'stage')}"
    page.lines(
        About(
            "A turn by its stages",
            "Mean time of each stage of a turn of the loop. read includes the wait for ticks, so it is long where "
            "little comes; the others are work. checkpoint is the moment in which state is copied.",
            "highlatency",
            "s",
        ),
        Query(mean, "{{stage}}"),
        low=0,
    )
    page.lines(
        About(
            "Work of the loop",
            "The share of a second that each stage takes, read left out. Near 1 for one partition the loop is at its "
            "limit.",
            "highlatency",
            "percentunit",
            [(None, "green"), (0.8, "red")],
            width=12,
        ),
        Query(
            f'sum by (stage) (rate(foretick_turn_seconds_sum{{{HERE}, stage!="read"}}[$__rate_interval]))', "{{stage}}"
        ),
        stacked=True,
        low=0,
    )
    page.lines(
        About("Slow turns", "The 99th percentile of each stage.", "highlatency", "s", width=12),
        Query(quantile(0.99, "turn_seconds", "stage"), "{{stage}} p99"),
        low=0,
    )


def _throughput(page: Page) -> None:
    page.row("How much")
    page.lines(
        About("Ticks by stream", "Entries read and answered.", "forecastsstale", "cps"),
        Query(rate("ticks_total", "stream", IN_STREAM), "{{stream}}"),
        stacked=True,
        low=0,
    )
    page.lines(
        About(
            "Forecasts by stage",
            "Forecasts published: cold ones, of series with too few ticks, are the naive forecast.",
            "forecastsstale",
            "cps",
        ),
        Query(rate("forecasts_total", "stage", IN_STREAM), "{{stage}}"),
        stacked=True,
        low=0,
    )
    page.lines(
        About(
            "Dead letters by reason",
            "Entries set aside as unusable, with their reason. They lie in foretick:{stream}:dead and can be sent "
            "again.",
            "deadlettersrising",
            "cps",
        ),
        Query(rate("dead_letters_total", "stream, reason", IN_STREAM), "{{stream}} {{reason}}"),
        stacked=True,
        low=0,
    )
    page.lines(
        About("Active series", "Series that ticked lately.", "series-that-fall-silent", "short", width=12),
        Query('sum by (group) (foretick_series_active{job=~"$job", instance=~"$instance"})', "{{group}}"),
        stacked=True,
        low=0,
    )
    page.lines(
        About(
            "Series forgotten",
            "Series that went without a tick for series.ttl.",
            "series-that-fall-silent",
            "short",
            width=12,
        ),
        Query(risen("series_expired_total", "group"), "{{group}}"),
        low=0,
    )


def _lag(page: Page) -> None:
    page.row("How far behind")
    page.lines(
        About("Unread ticks", "Entries of a stream that are not yet read.", "laggrowing", "short", width=12),
        Query(f"sum by (stream) (foretick_stream_lag_ticks{{{IN_STREAM}}})", "{{stream}}"),
        low=0,
    )
    page.lines(
        About(
            "Age of the oldest unread tick",
            "How old the oldest tick is that still waits. While history is caught up with it is large, and falls.",
            "laggrowing",
            "s",
            [(None, "green"), (60, "red")],
            12,
        ),
        Query(f"max by (stream) (foretick_stream_lag_seconds{{{IN_STREAM}}})", "{{stream}}"),
        low=0,
    )

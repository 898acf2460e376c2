"""The dashboard *Forecast accuracy*: how good the forecasts are, over any range, and where they are worst."""

from __future__ import annotations

from panels import About, Bounds, Page, Query

CHOSEN = 'job=~"$job", partition=~"$partition", group=~"$group"'
SKILL: Bounds = [(None, "red"), (-0.02, "orange"), (0.0, "green")]  # as SkillBelowNaive has it
MOVES = "none"  # errors are in mean moves: in the series' own mean absolute first differences


def rate(metric: str, window: str, *labels: str) -> str:
    """The rate of a counter over the chosen partitions and groups, added up but for these labels."""
    by = f" by ({', '.join(labels)}) " if labels else ""
    return f"sum{by}(rate(foretick_{metric}_total{{{CHOSEN}}}[{window}]))"


def skill(window: str, *labels: str, prefix: str = "") -> str:
    """1 - our mean error / the naive one."""
    ours, naive = (rate(f"{prefix}{whose}scaled_abs_error", window, *labels) for whose in ("", "naive_"))
    return f"1 - {ours} / {naive}"


def squared_skill(window: str, *labels: str, prefix: str = "") -> str:
    """The same of the root mean squared errors."""
    ours, naive = (rate(f"{prefix}{whose}scaled_squared_error", window, *labels) for whose in ("", "naive_"))
    return f"1 - sqrt({ours} / {naive})"


def coverage(window: str, *labels: str, prefix: str = "") -> str:
    """The share of actuals that each interval held."""
    held = rate(f"{prefix}interval_covered", window, *labels, "level")
    asked = rate(f"{prefix}interval_scored", window, *labels)
    return f"{held} / {'on (' + ', '.join(labels) + ')' if labels else 'on ()'} group_left {asked}"


def fill(page: Page) -> None:
    """Put all rows on the page."""
    _glance(page)
    _over_time(page)
    _experts(page)
    _series(page)
    _ahead(page)


def _glance(page: Page) -> None:
    page.row("The whole range at a glance")
    page.number(
        About(
            "Skill against naive",
            "1 − our mean absolute error / the naive forecast's (the last value), on the same ticks of the whole time "
            "range. Above 0 is better than naive, 1 would be perfect. Errors count in each series' own mean moves.",
            "skillbelownaive",
            "percentunit",
            SKILL,
            width=5,
            decimals=1,
        ),
        Query(skill("$__range"), "skill"),
        whole_range=True,
    )
    page.number(
        About(
            "Skill by squared error",
            "The same with root mean squared errors, which weigh large misses more.",
            "skillbelownaive",
            "percentunit",
            SKILL,
            width=5,
            decimals=1,
        ),
        Query(squared_skill("$__range"), "skill"),
        whole_range=True,
    )
    page.number(
        About(
            "Coverage",
            "The share of actuals that the intervals held, by their level. It should be the level itself.",
            "coverageoff",
            "percentunit",
            width=6,
            decimals=1,
        ),
        Query(coverage("$__range"), "level {{level}}"),
        whole_range=True,
    )
    page.number(
        About(
            "Forecasts scored",
            "Forecasts of the time range that have met their actual: what the numbers beside rest on.",
            "forecastsstale",
            "short",
            width=4,
        ),
        Query(f"sum(increase(foretick_scored_total{{{CHOSEN}}}[$__range]))", "scored"),
        whole_range=True,
    )
    page.number(
        About(
            "Active series",
            "Series that ticked lately, in the chosen groups.",
            "series-that-fall-silent",
            "short",
            width=4,
        ),
        Query('sum(foretick_series_active{job=~"$job", group=~"$group"})', "series"),
    )


def _over_time(page: Page) -> None:
    page.row("Over time, each point over the last $window")
    page.lines(
        About(
            "Skill by group",
            "1 − our mean absolute error / the naive one. A group that falls below 0 for long is worth a look; noise "
            "around 0 is what series without any pattern give.",
            "skillbelownaive",
            "percentunit",
            SKILL,
            width=12,
        ),
        Query(skill("$window", "group"), "{{group}}"),
        low=0,
    )
    page.lines(
        About(
            "Mean absolute error, ours and naive",
            "Mean absolute errors in mean moves of each series: 1 is as far as a series usually moves from tick to "
            "tick.",
            "skillbelownaive",
            MOVES,
            width=12,
            decimals=3,
        ),
        Query(f"{rate('scaled_abs_error', '$window')} / {rate('scored', '$window')}", "foretick"),
        Query(f"{rate('naive_scaled_abs_error', '$window')} / {rate('scored', '$window')}", "naive"),
        dashed="naive",
        low=0,
    )
    page.lines(
        About(
            "Coverage and nominal level",
            "The share of actuals that each interval held; dashed, the share that it is to hold.",
            "coverageoff",
            "percentunit",
            width=12,
            decimals=1,
        ),
        Query(coverage("$window"), "held {{level}}"),
        Query(f"max by (level) (foretick_interval_nominal{{{CHOSEN}}})", "nominal {{level}}"),
        dashed="nominal.*",
        high=1,
    )
    page.lines(
        About(
            "Skill by partition",
            "Each partition has weights of its own, so one may fare worse than the others.",
            "skillbelownaive",
            "percentunit",
            SKILL,
            width=12,
        ),
        Query(skill("$window", "partition"), "{{partition}}"),
        low=0,
    )


def _experts(page: Page) -> None:
    page.row("Who makes the forecast")
    chosen = 'job=~"$job", group=~"$group"'
    weights = f"avg by (expert) (foretick_expert_weight{{{chosen}}})"
    page.lines(
        About(
            "Weights of the experts",
            "The published forecast is a blend; each expert's share in the latest ~1,000 forecasts, averaged over the "
            "chosen groups. Where nothing can be foreseen naive takes over.",
            "skillbelownaive",
            "percentunit",
            width=16,
            decimals=0,
        ),
        Query(weights, "{{expert}}"),
        stacked=True,
        high=1,
    )
    page.bars(
        About(
            "Weights now, by group",
            "The same at the end of the range, group by group.",
            "skillbelownaive",
            "percentunit",
            decimals=0,
        ),
        Query(f"sort_desc(avg by (group, expert) (foretick_expert_weight{{{chosen}}}))", "{{group}} {{expert}}"),
        high=1,
    )


def _series(page: Page) -> None:
    page.row("Single series: the worst, and those that metrics.series names")
    page.rows(
        About(
            "Worst series",
            "The series with the least skill over their latest ~1,000 ticks, and their mean absolute error in their "
            "own unit; metrics.worst says how many.",
            "skillbelownaive",
            "none",
            width=12,
            decimals=3,
        ),
        {
            "skill": Query('min by (stream, series) (foretick_series_skill{job=~"$job"})'),
            "mean absolute error": Query('max by (stream, series) (foretick_series_mae{job=~"$job"})'),
        },
        ["stream", "series"],
        "skill",
        ascending=True,
        units={"skill": "percentunit"},
    )
    page.rows(
        About(
            "Silent for longest",
            "Time since the newest tick of a series arrived. A sensor that fell silent shows here first.",
            "series-that-fall-silent",
            "s",
            width=12,
        ),
        {"silent for": Query('max by (stream, series) (foretick_series_staleness_seconds{job=~"$job"})')},
        ["stream", "series"],
        "silent for",
        ascending=False,
    )
    page.lines(
        About(
            "Skill of single series",
            "Over each series' latest ~1,000 ticks. Lines come and go as series enter and leave the worst; those that "
            "metrics.series names stay.",
            "skillbelownaive",
            "percentunit",
            SKILL,
            width=24,
        ),
        Query('bottomk(20, min by (stream, series) (foretick_series_skill{job=~"$job"}))', "{{stream}} {{series}}"),
    )


def _ahead(page: Page) -> None:
    error = rate("horizon_scaled_abs_error", "$window", "horizon")
    page.row("Several steps ahead (only where horizon is above 1)")
    page.lines(
        About(
            "Skill by horizon",
            "1 − our mean absolute error / the naive one, so many ticks ahead.",
            "skillbelownaive",
            "percentunit",
            SKILL,
        ),
        Query(skill("$window", "horizon", prefix="horizon_"), "{{horizon}} ahead"),
        low=0,
    )
    page.lines(
        About(
            "Coverage by horizon",
            "The share of actuals that each interval held, so many ticks ahead. It should be the level itself.",
            "coverageoff",
            "percentunit",
            decimals=1,
        ),
        Query(coverage("$window", "horizon", prefix="horizon_"), "{{horizon}} ahead, level {{level}}"),
        high=1,
    )
    page.lines(
        About(
            "Mean absolute error by horizon",
            "In mean moves of each series. It grows with the horizon; the naive forecast's grows faster where there "
            "is skill.",
            "skillbelownaive",
            MOVES,
            decimals=3,
        ),
        Query(f"{error} / {rate('horizon_scored', '$window', 'horizon')}", "{{horizon}} ahead"),
        low=0,
    )
    page.lines(
        About(
            "Skill by squared error, by horizon",
            "1 − our root mean squared error / the naive one, so many ticks ahead: large misses weigh more.",
            "skillbelownaive",
            "percentunit",
            SKILL,
            width=24,
        ),
        Query(squared_skill("$window", "horizon", prefix="horizon_"), "{{horizon}} ahead"),
        low=0,
    )

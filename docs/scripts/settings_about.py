"""What each setting is and what changing it does, for docs/configuration.md. A test asks for a line for each."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

NEW_MODEL = frozenset(  # a checkpoint of before does not fit: status 4, or `run --discard-state`
    {"profile", "features", "targets", "horizon", "interval.levels", "model.hidden", "model.layers"}
)

ABOUT: Mapping[str, str] = {
    "redis.url": (
        "Where Redis or Valkey is. Another one is another history: checkpoints kept in a folder are refused there."
    ),
    "redis.password": (
        "Takes the place of the URL's. A flag would show it to everyone on the machine and is refused: use "
        "`redis.password_file`, which names a file that holds it, or systemd's credential `redis-password`."
    ),
    "redis.user": "A user of Redis' ACL; takes the place of the URL's ([redis.md](redis.md)).",
    "redis.ca": (
        "Whose signature under the server's certificate is trusted, with `rediss://`: a file in PEM, beside the "
        "machine's own."
    ),
    "redis.cert": "Our certificate, for servers that ask for one: a file in PEM, read again at each connection.",
    "redis.key": "The private key of that certificate, without a passphrase; it may stand in the same file.",
    "redis.sentinel_user": "For Sentinels with an ACL of their own.",
    "redis.sentinel_password": (
        "For Sentinels that ask for one; the master's is `redis.password`. Better as `redis.sentinel_password_file`."
    ),
    "redis.connect_deadline": (
        "How long a start waits for Redis before it ends with status 3. Later losses are waited for without end."
    ),
    "embedded": "Starts a private Valkey on a loopback port, its data in `state_dir`, in place of `redis.url`.",
    "state_dir": (
        "Where the embedded server keeps its data. The default is systemd's `$STATE_DIRECTORY`, else "
        "`$XDG_STATE_HOME/foretick`, else `~/.local/state/foretick`."
    ),
    "streams": "The input: names, and globs looked up again every 5 s ([partitions.md](partitions.md)).",
    "start": (
        "Where the very first run on a stream begins. `earliest` lets its history warm the model up; later runs go on"
        " from the committed position."
    ),
    "prefix": (
        "Of all keys that foretick writes, and of the circle of daemons that share streams. Another one is another "
        "daemon, which begins anew."
    ),
    "batch": (
        "Entries taken in one turn at most. In a backlog turns grow up to it while they take less than 0.1 s; each ends"
        " with a commit that holds Redis for 3 to 5 µs per tick. The forecasts are the same."
    ),
    "fields.series": "The field with the series id.",
    "fields.value": "The field with the number to forecast.",
    "fields.ts": "The field with the event time; ticks without it have the time of their entry id.",
    "fields.ts_unit": "The unit of that field.",
    "profile": "What a series may cost: 64 kB, 2.8 kB or 1.2 kB of state ([profiles.md](profiles.md)).",
    "features": "The fields of numbers that each tick carries; `value` stands for what `fields.value` says.",
    "targets": (
        "Those of the features that are forecast; none: the first. Several give every field of a forecast a suffix, "
        "`yhat.close`."
    ),
    "horizon": "Steps ahead that are forecast: 3 adds `yhat_2`, `yhat_3` and their intervals.",
    "interval.levels": "The shares of actuals that the intervals are to hold; each is two fields of a forecast.",
    "season": "The seasons the model looks back to. `auto`: a day, and a week where a day has at most 48 ticks.",
    "learn.enabled": "Whether the network learns while it runs. Without it the linear experts and the blend still do.",
    "learn.every": (
        "Ticks per active series from one learning job to the next: less often is cheaper and adapts slower."
    ),
    "learn.trainer": (
        "Where jobs are computed: beside the loop, or in it (one process, slower). The forecasts are the same."
    ),
    "model.hidden": (
        "Units of the LSTM; none: as the profile has it (64, 32 or 16). Twice the units cost four times the step."
    ),
    "model.layers": "LSTM layers, one above the other. More than one seldom pays.",
    "model.seed": "Of the first weights and of what is sampled for learning. It counts where there is no state yet.",
    "model.init": (
        "Weights from `foretick fit` to begin with where there is no checkpoint; none: seeded noise ([fit.md](fit.md))."
    ),
    "device": (
        "Where the LSTM steps and learns; `auto` is the CPU, and a GPU has to be named ([device.md](device.md)). What "
        "is not there ends the start with status 2."
    ),
    "groups": (
        "Networks and settings of their own for series whose id or stream fits a pattern ([groups.md](groups.md))."
    ),
    "max_series": "Series remembered per partition; ticks of further ones become dead letters `too_many_series`.",
    "series.ttl": "A series without a tick for so long is forgotten ([series.md](series.md)); none: never.",
    "forecasts.maxlen": (
        "About so many forecasts are kept per input stream. Consumers that may be away for long need more."
    ),
    "dead.maxlen": "About so many dead letters are kept per input stream.",
    "latest": "Whether the hash of each series' last forecast is kept as well; without it a tick costs Redis less.",
    "lease.ttl": (
        "How soon another daemon takes over from a dead one. Shorter is sooner; a pause of the process or of Redis "
        "beyond it costs the partition its owner."
    ),
    "checkpoint.every": "Time between two checkpoints: a restart replays what came after the last one.",
    "checkpoint.store": "Where checkpoints are: in Redis, or in a folder for state too large for it.",
    "checkpoint.redis_max": "The largest checkpoint that goes into Redis; up to three lie in its memory for a while.",
    "metrics.worst": "So many of the least skilled and of the stalest series have metrics of their own.",
    "metrics.series": "So have these series. Each costs Prometheus three time series.",
    "http.host": (
        "The address of `/metrics`, the probes and the live page. They ask for no "
        "password: see [security.md](security.md) before opening them."
    ),
    "http.port": "Their port.",
    "log.level": "The least severe lines that are logged.",
    "log.format": "`auto` is JSON, and for people on a terminal.",
}

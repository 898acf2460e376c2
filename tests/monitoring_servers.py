"""A real Prometheus, a real Alertmanager and whoever it calls, on free loopback ports."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from foretick.ports.embedded import bound_to_parent, free_port
from monitoring import binary
from servers import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Process:
    """A server with a folder of its own; a context manager."""

    def __init__(self, name: str, config: dict) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.folder = Path(tempfile.mkdtemp(prefix=f"foretick-{name}-"))
        (self.folder / "config.yaml").write_text(yaml.safe_dump(config))
        command = [
            binary(name),
            f"--config.file={self.folder / 'config.yaml'}",
            f"--storage.{'tsdb.' if name == 'prometheus' else ''}path={self.folder / 'kept'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            "--log.level=warn",
            *(["--cluster.listen-address="] if name == "alertmanager" else []),
        ]
        with (self.folder / "output").open("ab") as output:
            self._process = subprocess.Popen(
                bound_to_parent(command), stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
            )

    def __enter__(self):
        wait_until(self._is_ready, 20, f"{self.url}/-/ready")
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.wait(20)
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_ready(self) -> bool:
        assert self._process.poll() is None, (self.folder / "output").read_text()
        try:
            with urllib.request.urlopen(f"{self.url}/-/ready", timeout=5) as reply:
                return reply.status == 200
        except OSError:
            return False


class Prometheus(_Process):
    """Scrapes `targets` (host:port) as the job `foretick`, and tells `alertmanagers` (URLs) what `rules` find."""

    def __init__(
        self, targets: Sequence[str], *, rules: Path | None = None, alertmanagers: Sequence[str] = (), every: str = "1s"
    ) -> None:
        hosts = [url.removeprefix("http://") for url in alertmanagers]
        super().__init__(
            "prometheus",
            {
                "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
                "rule_files": [str(rules)] if rules else [],
                "alerting": {"alertmanagers": [{"static_configs": [{"targets": hosts}]}]},
                "scrape_configs": [{"job_name": "foretick", "static_configs": [{"targets": list(targets)}]}],
            },
        )

    def ask(self, path: str, **arguments: str) -> list | dict:
        """The data that the API answers with; an AssertionError with its words when it refuses."""
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(arguments)}") as reply:
                return json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()) from None

    def values(self, expr: str) -> list[float]:
        """What an instant query finds, NaN included."""
        answer = self.ask("query", query=expr)
        found = answer["result"] if answer["resultType"] == "vector" else [{"value": answer["result"]}]
        return [float(one["value"][1]) for one in found]


class Alertmanager(_Process):
    """Tells the webhook at `url` of each alert at once, and when it is over."""

    def __init__(self, url: str) -> None:
        timing = {"group_by": ["alertname"], "group_wait": "0s", "group_interval": "1s", "repeat_interval": "1h"}
        super().__init__(
            "alertmanager",
            {
                "route": {"receiver": "webhook", **timing},
                "receivers": [{"name": "webhook", "webhook_configs": [{"url": url, "send_resolved": True}]}],
            },
        )


class Webhook:
    """Whoever is on call: remembers each alert that it was told of."""

    def __init__(self) -> None:
        self.heard: list[dict] = []
        outer = self

        class Listener(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.heard += json.loads(self.rfile.read(int(self.headers["Content-Length"])))["alerts"]
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def wait(self, alert: str, status: str, deadline_seconds: float) -> dict:
        """The alert as it was told, `firing` or `resolved`."""

        def told() -> dict | None:
            latest = [one for one in self.heard if one["labels"]["alertname"] == alert][-1:]
            return latest[0] if latest and latest[0]["status"] == status else None

        return wait_until(told, deadline_seconds, f"{alert} {status}")

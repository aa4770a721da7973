"""An S3 endpoint on the hosts' bridge that can go away and come back with its objects."""

from __future__ import annotations

import threading
import urllib.request
from importlib import import_module
from typing import Any

from benchmarks.faults.hosts import BRIDGE_IP, S3_PORT

BUCKET = "bucket"


class S3Server:
    """moto's application behind a listener that is opened and closed."""

    def __init__(self) -> None:
        self._app: Any = None
        self._server: Any = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; the objects of before are there."""
        moto, serving = (
            import_module("moto.moto_server.werkzeug_app"),
            import_module("werkzeug.serving"),
        )

        class Quiet(moto.MotoRequestHandler):  # type: ignore[name-defined]
            def log_request(self, *_: Any) -> None:
                """Say nothing."""

        is_new = self._app is None
        if is_new:
            self._app = moto.DomainDispatcherApplication(moto.create_backend_app)
        self._server = serving.make_server(
            BRIDGE_IP, S3_PORT, self._app, threaded=True, request_handler=Quiet
        )
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        if is_new:
            url = f"http://{BRIDGE_IP}:{S3_PORT}/{BUCKET}"
            urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()

    def stop(self) -> None:
        """Refuse connections."""
        if self._server is None or self._thread is None:
            return
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
        self._server = None

    def num_objects(self, folder: str, ending: str) -> int:
        """Objects in a folder of the bucket, or below, whose names end so."""
        backends = import_module("moto.s3.models").s3_backends
        bucket = backends["123456789012"]["aws"].buckets[BUCKET]
        return sum(
            name.startswith(f"{folder}/") and name.endswith(ending) for name in list(bucket.keys)
        )

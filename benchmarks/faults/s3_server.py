"""An S3 endpoint on the hosts' bridge that can go away and come back with its objects."""

from __future__ import annotations

import logging
import urllib.request
from importlib import import_module
from typing import Any

from benchmarks.faults.hosts import BRIDGE_IP, S3_PORT

BUCKET = "bucket"


class S3Server:
    """moto's server, whose objects outlive it in this process."""

    def __init__(self) -> None:
        self._server: Any = None

    def start(self) -> None:
        """Listen; the objects of before are there."""
        logging.getLogger("werkzeug").setLevel(logging.ERROR)  # not every request
        is_new = self._server is None
        self._server = import_module("moto.server").ThreadedMotoServer(BRIDGE_IP, S3_PORT, False)
        self._server.start()
        if is_new:
            url = f"http://{BRIDGE_IP}:{S3_PORT}/{BUCKET}"
            urllib.request.urlopen(urllib.request.Request(url, method="PUT")).close()

    def stop(self) -> None:
        """Refuse connections."""
        self._server.stop()
        self._server._server.server_close()  # which moto leaves listening

    def num_objects(self, folder: str, ending: str) -> int:
        """Objects in a folder of the bucket, or below, whose names end so."""
        backends = import_module("moto.s3.models").s3_backends
        names = list(backends["123456789012"]["aws"].buckets[BUCKET].keys)
        return sum(name.startswith(f"{folder}/") and name.endswith(ending) for name in names)

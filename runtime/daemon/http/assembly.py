"""Puts a server's parts together."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

from edgepose.runtime.daemon.auth import AuthSettings
from edgepose.runtime.daemon.http.broadcast import Broadcast
from edgepose.runtime.daemon.http.connections import Connections
from edgepose.runtime.daemon.http.gate import Gate
from edgepose.runtime.daemon.http.metrics import Metrics, Services
from edgepose.runtime.daemon.http.parts import LogTail, Parts
from edgepose.runtime.daemon.http.pictures import Pictures
from edgepose.runtime.daemon.http.settings import ServerSettings
from edgepose.runtime.daemon.site import Site


def parts_for(settings: ServerSettings, auth: AuthSettings, site: Site, log_tail: LogTail, services: Services) -> Parts:
    metrics = Metrics(site, services)
    broadcast = Broadcast(site, settings.stream_depth, metrics.watch)
    return Parts(
        site=site,
        settings=settings,
        gate=Gate(auth, settings),
        connections=Connections(settings.max_clients, settings.max_clients_per_address),
        broadcast=broadcast,
        pictures=Pictures(site, settings, broadcast),
        metrics=metrics,
        log_tail=log_tail,
        services=services,
        asking=ThreadPoolExecutor(2, thread_name_prefix="edgepose http asks"),
        inferring=ThreadPoolExecutor(settings.max_inferences + 1, thread_name_prefix="edgepose http infers"),
        slots=asyncio.Semaphore(settings.max_inferences),
    )

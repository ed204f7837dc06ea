"""What labbot counts and times about itself, for Prometheus."""

from collections.abc import Callable
from functools import cache
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

Outcome = Literal["sent", "edited", "retried", "undeliverable", "unsure"]

# A reply is there within a second; a broadcast, or a chat that asked for a pause, takes minutes.
DELIVERY_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1800, 7200)
TRANSACTION_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5)


class Metrics:
    """The metrics of one running bot, in a registry of their own.

    One with labels is called with their values: ``metrics.updates("telegram", "said").inc()``. What a call gives
    is remembered, since the library takes a lock and goes through the labels each time it is asked. Labels are
    therefore words from the code (adapters, kinds, outcomes), never what a person wrote and never an id.
    """

    def __init__(self) -> None:
        registry = self.registry = CollectorRegistry()
        adapter = ("adapter",)

        self.updates: Callable[[str, str], Counter] = cache(
            Counter("labbot_updates_total", "Updates received", ("adapter", "kind"), registry=registry).labels
        )
        self.turn_failures: Callable[[str], Counter] = cache(
            Counter("labbot_turn_failures_total", "Updates whose handler failed", adapter, registry=registry).labels
        )
        self.unreadable_updates: Callable[[str], Counter] = cache(
            Counter("labbot_unreadable_updates_total", "Updates not understood", adapter, registry=registry).labels
        )
        self.deliveries: Callable[[str, Outcome], Counter] = cache(
            Counter("labbot_deliveries_total", "Attempts to deliver", ("adapter", "outcome"), registry=registry).labels
        )
        self.outbox_pending: Callable[[str], Gauge] = cache(
            Gauge("labbot_outbox_pending", "Messages still to be delivered", adapter, registry=registry).labels
        )
        self.last_poll: Callable[[str], Gauge] = cache(
            Gauge(
                "labbot_last_poll_timestamp_seconds", "When the messenger last answered", adapter, registry=registry
            ).labels
        )
        self.delivery_seconds = Histogram(
            "labbot_delivery_seconds", "From queued to delivered", buckets=DELIVERY_SECONDS, registry=registry
        )
        self.transaction_seconds = Histogram(
            "labbot_transaction_seconds", "One batch, to its commit", buckets=TRANSACTION_SECONDS, registry=registry
        )
        self.loop_lag = Gauge("labbot_loop_lag_seconds", "How late the event loop wakes up", registry=registry)

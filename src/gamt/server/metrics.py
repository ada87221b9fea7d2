"""What a server counts, in Prometheus' format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

SECONDS = (0.05, 0.1, 0.2, 0.35, 0.5, 1, 2, 5, 10, 30, 60)
"""Bounds of the histograms: the last is when nnInteractive's client gives up."""


class Metrics:
    """One server's counters.

    Attributes:
        sessions: that are open.
        max_sessions: that may be open at once.
        waiting: predictions that wait for their turn to compute.
        waited: seconds that a prediction waited, by the kind of its prompt; "undo" and "redo" are
            kinds, too.
        computed: seconds that it computed, likewise.
        cancelled: predictions that were not finished, by the reason: "superseded", "gone" or
            "closed".
        cut: predictions that were finished from what had been seen, for want of time.
        errors: calls that failed, by the name of the exception; not what users got wrong.
        encoded: slices that were encoded, by when: "asked" for by a prediction, or "ahead" of one.
        cache_hits: times that a slice was asked for whose embedding was there already.
        cache_misses: times that it was not.
        cache_bytes: memory that embeddings take.
        reserved_bytes: memory that images and what belongs to them take.
        max_reserved_bytes: that they may take.
    """

    def __init__(self) -> None:
        """Begins at zero, in a registry of its own."""
        self._registry = registry = CollectorRegistry()
        self.sessions = Gauge("gamt_sessions", "Open sessions", registry=registry)
        self.max_sessions = Gauge(
            "gamt_sessions_max", "Sessions that may be open at once", registry=registry
        )
        self.waiting = Gauge(
            "gamt_predictions_waiting", "Predictions that wait for their turn", registry=registry
        )
        self.waited = Histogram(
            "gamt_prediction_waited_seconds",
            "Seconds that a prediction waited for its turns",
            ["kind"],
            registry=registry,
            buckets=SECONDS,
        )
        self.computed = Histogram(
            "gamt_prediction_computed_seconds",
            "Seconds that a prediction computed",
            ["kind"],
            registry=registry,
            buckets=SECONDS,
        )
        self.cancelled = Counter(
            "gamt_predictions_cancelled",
            "Predictions that were not finished",
            ["reason"],
            registry=registry,
        )
        self.cut = Counter(
            "gamt_predictions_cut", "Predictions for which the time was short", registry=registry
        )
        self.errors = Counter("gamt_errors", "Calls that failed", ["error"], registry=registry)
        self.encoded = Counter(
            "gamt_slices_encoded", "Slices that were encoded", ["when"], registry=registry
        )
        self.cache_hits = Counter(
            "gamt_cache_hits", "Slices asked for that were encoded already", registry=registry
        )
        self.cache_misses = Counter(
            "gamt_cache_misses", "Slices asked for that were not yet encoded", registry=registry
        )
        self.cache_bytes = Gauge("gamt_cache_bytes", "Bytes of encoded slices", registry=registry)
        self.reserved_bytes = Gauge(
            "gamt_reserved_bytes", "Bytes reserved for images and masks", registry=registry
        )
        self.max_reserved_bytes = Gauge(
            "gamt_reserved_bytes_max", "Bytes that may be reserved", registry=registry
        )

    def count_prediction(
        self, kind: str, waited: float, computed: float, encoded: int, found: int
    ) -> None:
        """Counts a prediction, whatever became of it.

        Args:
            kind: of its prompt.
            waited: seconds.
            computed: seconds.
            encoded: slices that it asked for and that were encoded for it.
            found: times that it asked for a slice that was encoded already.
        """
        self.waited.labels(kind).observe(waited)
        self.computed.labels(kind).observe(computed)
        self.encoded.labels("asked").inc(encoded)
        self.cache_misses.inc(encoded)
        self.cache_hits.inc(found)

    def render(self) -> tuple[bytes, str]:
        """Returns all of it as text, and the content type of that."""
        return generate_latest(self._registry), CONTENT_TYPE_LATEST

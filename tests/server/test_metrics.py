"""A server's counters, as Prometheus reads them."""

from prometheus_client.parser import text_string_to_metric_families

from gamt.server.metrics import Metrics


def read(metrics: Metrics) -> dict[tuple[str, str], float]:
    """Returns the values by name and by the value of the label, if there is one."""
    content, _ = metrics.render()
    return {
        (sample.name, next(iter(sample.labels.values()), "")): sample.value
        for family in text_string_to_metric_families(content.decode())
        for sample in family.samples
        if "le" not in sample.labels
    }


def test_what_was_counted_is_rendered_by_kind() -> None:
    metrics = Metrics()
    metrics.max_sessions.set(8)
    metrics.count_prediction("point", waited=2, computed=0.25, encoded=4, found=6)
    metrics.count_prediction("point", waited=0, computed=0.5, encoded=1, found=0)
    metrics.cancelled.labels("gone").inc()
    metrics.encoded.labels("ahead").inc(3)
    values = read(metrics)
    assert values["gamt_sessions_max", ""] == 8
    assert values["gamt_prediction_computed_seconds_sum", "point"] == 0.75
    assert values["gamt_prediction_computed_seconds_count", "point"] == 2
    assert values["gamt_prediction_waited_seconds_sum", "point"] == 2
    assert values["gamt_predictions_cancelled_total", "gone"] == 1
    assert values["gamt_slices_encoded_total", "ahead"] == 3
    assert values["gamt_slices_encoded_total", "asked"] == 5
    assert values["gamt_cache_hits_total", ""] == 6
    assert values["gamt_cache_misses_total", ""] == 5


def test_the_content_type_is_that_of_prometheus_text_format() -> None:
    assert Metrics().render()[1].startswith("text/plain; version=")


def test_servers_count_apart() -> None:
    one, other = Metrics(), Metrics()
    one.errors.labels("ValueError").inc()
    assert ("gamt_errors_total", "ValueError") not in read(other)

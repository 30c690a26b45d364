"""Cheap counters and histograms are what Prometheus expects of counters and histograms."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client import Histogram as Original
from prometheus_client.parser import text_string_to_metric_families

from service.telemetry.tallies import Counter, Histogram


def samples(registry: CollectorRegistry) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_histogram_is_the_one_that_prometheus_client_would_give() -> None:
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    bounds = (0.1, 1, 10)
    cheap = Histogram("h", "Text.", ["stage"], buckets=bounds, registry=ours)
    original = Original("h", "Text.", ["stage"], buckets=bounds, registry=theirs)
    for value in (0.05, 0.1, 0.5, 1.0, 5.0, 50.0):
        cheap.labels("a").observe(value)
        original.labels("a").observe(value)
    assert samples(ours) == samples(theirs)


def test_a_counter_counts_by_label_and_starts_at_zero_without_any() -> None:
    registry = CollectorRegistry()
    Counter("plain", "Text.", registry=registry)
    labelled = Counter("labelled", "Text.", ["a", "b"], registry=registry)
    labelled.labels("x", "y").inc()
    labelled.labels("x", "y").inc(2)
    assert samples(registry) == {
        ("plain_total", ()): 0,
        ("labelled_total", (("a", "x"), ("b", "y"))): 3,
    }

"""What `emu inspect` counts with: spreads, names and domains at flat memory, and the bins that people are shown."""

import random
from collections import Counter
from statistics import quantiles

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.look.charts import MOST_BINS, bar, bins
from jobs.look.domains import NO_HOST, domain_of
from jobs.look.tally import MOST_FIELDS, Fields, Spread, TopCounts


def spread_of(values: list[int]) -> Spread:
    spread = Spread()
    for value in values:
        spread.add(value)
    return spread


@given(st.lists(st.integers(0, 1 << 45), min_size=1, max_size=60))
def test_bins_hold_every_value_once_and_quantiles_are_near(values: list[int]) -> None:
    spread = spread_of(values)
    made = bins(spread)
    assert sum(b.number for b in made) == len(values)
    assert len(made) <= MOST_BINS + 3
    edges = [(b.low, b.high) for b in made]
    assert all(low is None or high is None or low < high for low, high in edges)
    assert [high for _, high in edges[:-1]] == [low for low, _ in edges[1:]] or len(spread.counts) <= MOST_BINS
    for fraction in (0.01, 0.5, 0.99):
        rank = sorted(values)[max(0, -(-int(fraction * 1000 * len(values)) // 1000) - 1)]
        assert rank - rank / 512 <= spread.quantile(fraction) <= rank


def test_a_spread_of_a_million_values_stays_small() -> None:
    draw = random.Random(7)
    values = [int(draw.lognormvariate(11, 2)) for _ in range(100_000)]
    spread = spread_of(values)
    assert len(spread.counts) < 512 * 40
    assert len(spread) == len(values)
    for told, true in zip([spread.quantile(n / 4) for n in (1, 2, 3)], quantiles(values), strict=True):
        assert told == pytest.approx(true, rel=0.01)


def test_sides_that_are_all_one_are_one_bin() -> None:
    assert [(b.low, b.number) for b in bins(spread_of([384] * 5 + [512] * 2))] == [(384, 5), (512, 2)]


def test_edges_are_round() -> None:
    edges = [b.low for b in bins(spread_of(list(range(200, 700)))) if b.low is not None]
    assert edges == [200, 300, 400, 500, 600]
    edges = [b.low for b in bins(spread_of([2**n for n in range(24)])) if b.low is not None]
    assert all(str(edge).strip("0") in {"1", "3"} for edge in edges)


def test_an_empty_spread_is_nothing() -> None:
    assert (bins(Spread()), Spread().quantile(0.5), Spread().mean) == ([], 0, 0)


def test_top_counts_forget_only_the_rare_and_keep_the_sums() -> None:
    draw = random.Random(3)
    counts, true = TopCounts(most=50), Counter[str]()
    for _ in range(20_000):
        name = f"n{int(draw.paretovariate(0.7)) % 5000}"
        true[name] += 1
        counts.add(name, kept=1)
    assert len(counts) <= 100
    assert counts.sums == (20_000, 0)
    largest = sorted(true.items(), key=lambda item: (-item[1], item[0]))[:10]
    assert [name for name, _, _ in list(counts)[:10]] == [name for name, _ in largest]


def test_top_counts_of_nothing_sum_to_nothing() -> None:
    assert (list(TopCounts()), TopCounts().sums) == ([], (0, 0))


def test_fields_widen_and_have_a_bound() -> None:
    fields = Fields()
    for values in ({"a": 1, "b": None}, {"a": 2.5, "b": "x", "c": {}}, {"c": [1]}):
        fields.add(values)
    assert fields.types == {"a": "float", "b": "string", "c": "mixed"}
    assert fields.samples == {"a": 2, "b": 1, "c": 2}
    fields.add({f"x{n}": 1 for n in range(10_000)})
    assert (len(fields.types), fields.more) == (MOST_FIELDS, True)


@pytest.mark.parametrize(
    ("url", "domain"),
    [
        ("https://www.example.com/a.jpg", "example.com"),
        ("http://a.b.example.co.uk:8080/x?y=z", "example.co.uk"),
        ("https://co.uk/", "co.uk"),
        ("https://img.example.de", "example.de"),
        ("https://user:pw@CDN.Example.ORG./x", "example.org"),
        ("http://192.168.0.1:80/x", "192.168.0.1"),
        ("http://[2001:db8::1]:443/x", "[2001:db8::1]"),
        ("http://localhost/x", "localhost"),
        ("http://münchen.example/", "münchen.example"),
        ("https://example.com\\@evil.org/", "example.com"),
        ("UNLIKELY", NO_HOST),
        ("https:///x", NO_HOST),
        ("https://a b.com/", NO_HOST),
        ("https://" + "a" * 300, NO_HOST),
        ("", NO_HOST),
        (None, NO_HOST),
    ],
)
def test_domains(url: str | None, domain: str) -> None:
    assert domain_of(url) == domain


@given(st.text(max_size=300))
def test_any_text_has_a_domain_or_none(url: str) -> None:
    assert len(domain_of(url)) <= 253
    assert len(domain_of("http://" + url)) <= 253


@pytest.mark.parametrize(("fraction", "drawn"), [(0, ""), (0.0001, "▏"), (0.5, "██"), (0.55, "██▎"), (1, "████")])
def test_bars(fraction: float, drawn: str) -> None:
    assert bar(fraction, 4) == drawn

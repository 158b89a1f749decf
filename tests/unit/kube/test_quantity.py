"""Quantities mean what Kubernetes says they mean."""

import hypothesis
import pytest
from hypothesis import strategies

from provisioner.kube import errors, quantity


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("1Ki", 1024),
        ("1Mi", 1024**2),
        ("1Gi", 1024**3),
        ("1Ti", 1024**4),
        ("1Pi", 1024**5),
        ("1Ei", 1024**6),
        ("1k", 1000),
        ("1M", 1000**2),
        ("1G", 1000**3),
        ("1T", 1000**4),
        ("1P", 1000**5),
        ("1E", 1000**6),
        ("1e3", 1000),
        ("1E3", 1000),
        ("12e-1", 2),
        ("+5", 5),
        ("-5", -5),
        (".5Ki", 512),
        ("1.Ki", 1024),
        ("1.5Gi", 3 * 1024**3 // 2),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_every_suffix_is_understood(text: str, size: int) -> None:
    assert quantity.parse(text) == size


@pytest.mark.parametrize(("text", "size"), [("1500m", 2), ("1m", 1), ("1n", 1), ("1u", 1), ("0.1", 1), ("-1500m", -2)])
def test_a_part_of_a_byte_is_rounded_away_from_zero(text: str, size: int) -> None:
    assert quantity.parse(text) == size


@pytest.mark.parametrize(
    "text", ["", " ", "Gi", "1GiB", "1 Gi", "1,5Gi", "1e", "0x10", "٣Gi", "1Gi\n", "--1", "1e999", "9" * 100, "\0"]
)
def test_what_is_no_quantity_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(errors.QuantityError, match="10Gi"):
        quantity.parse(text)


@pytest.mark.parametrize("text", ["8Ei", "9223372036854775808", "1e19", "-9Ei"])
def test_what_no_63_bits_hold_is_out_of_range(text: str) -> None:
    with pytest.raises(errors.QuantityError, match="out of range"):
        quantity.parse(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0"),
        (1, "1"),
        (1023, "1023"),
        (1024, "1Ki"),
        (1024**3, "1Gi"),
        (1024**3 + 1, "1073741825"),
        (3 * 512, "1536"),
    ],
)
def test_a_size_is_written_with_the_largest_suffix_that_keeps_it_whole(size: int, text: str) -> None:
    assert quantity.format(size) == text


@hypothesis.given(strategies.integers(min_value=0, max_value=2**63 - 1))
def test_what_is_written_is_read_as_the_same_size(size: int) -> None:
    assert quantity.parse(quantity.format(size)) == size

"""Durations, sizes and shares of processors as people write them."""

from __future__ import annotations

import re

import pytest
from pydantic import TypeAdapter, ValidationError

from sandboxer.units import CPUQuantity, Duration, Quantity, format_bytes, format_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("1h30m", 5400), ("250ms", 0.25), ("7d", 604_800), ("1.5h", 5400)],
)
def test_a_duration_is_a_number_of_seconds(text: str, seconds: float) -> None:
    """Every unit of Go and days are understood, and the text stays as it was written."""
    duration = Duration(text)

    assert duration.seconds == pytest.approx(seconds)
    assert str(duration) == text


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("512Mi", 2**29), ("2Gi", 2**31), ("1G", 10**9), ("1048576", 2**20), ("1.5Ki", 1536), ("3k", 3000)],
)  # fmt: skip
def test_a_quantity_is_a_number_of_bytes(text: str, size_bytes: int) -> None:
    """Binary and decimal units are told apart as in Kubernetes."""
    assert Quantity(text).size_bytes == size_bytes


@pytest.mark.parametrize(
    ("text", "cores"), [("2", 2), ("0.5", 0.5), ("500m", 0.5), ("1.125", 1.125)]
)
def test_a_share_is_a_number_of_cores(text: str, cores: float) -> None:
    """Cores and thousandths of a core are understood."""
    assert CPUQuantity(text).cores == cores


_BAD = [
    "",
    "x",
    "-1s",
    "1e99",
    "NaN",
    "inf",
    "5",
    "P1Y",
    "1h 30m",
    "1s\n",
    "\u0661s",
    "0s",
    "3651d",
    "1" * 63 + "s!",
    "1" * 80 + "s",
]


@pytest.mark.parametrize("text", _BAD)
def test_a_duration_is_nothing_else(text: str) -> None:
    """Signs, exponents, ISO periods, foreign digits, missing units and endless text are refused."""
    with pytest.raises(ValueError, match="duration"):
        Duration(text)


@pytest.mark.parametrize(
    "text", ["", "-1", "1e9", "NaN", "inf", "1 Gi", "1gi", "1KiB", "1Gi\n", "0x10"]
)
def test_a_quantity_is_nothing_else(text: str) -> None:
    """Signs, exponents and other spellings of units are refused."""
    with pytest.raises(ValueError, match="is not a quantity"):
        Quantity(text)


@pytest.mark.parametrize("text", ["", "-1", "1.2345", "0.5m", "1e1", "all", "1m\n"])
def test_a_share_is_nothing_else(text: str) -> None:
    """A thousandth is the smallest part."""
    with pytest.raises(ValueError, match="is not a cpuquantity"):
        CPUQuantity(text)


@pytest.mark.parametrize("value", [5, 5.0, True, None, ["5s"]])
def test_only_text_is_taken(value: object) -> None:
    """A number without a unit is not guessed at."""
    with pytest.raises(ValidationError):
        TypeAdapter(Duration).validate_python(value)


@pytest.mark.parametrize("type_", [Duration, Quantity, CPUQuantity])
def test_the_schema_says_what_the_type_checks(type_: type[Duration]) -> None:
    """An editor accepts the example, and refuses what the type refuses."""
    schema = TypeAdapter(type_).json_schema()

    assert re.search(schema["pattern"], schema["example"])
    assert all(not re.search(schema["pattern"], text) for text in ("", "x", "-1s", "1h 30m"))
    assert schema["maxLength"] == 64


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-5, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (600, "10m"), (10_799, "179m"),
     (10_800, "3h"), (11_100, "3h5m"), (28_800, "8h"), (172_799, "47h"), (172_800, "2d"),
     (187_200, "2d4h"), (864_000, "10d")],
)  # fmt: skip
def test_an_age_reads_as_in_kubectl(seconds: float, text: str) -> None:
    """Two units while they matter, then one."""
    assert format_duration(seconds) == text


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(0, "0 B"), (512, "512 B"), (1536, "1.5 KiB"), (10 * 2**20, "10 MiB"), (1.5 * 2**30, "1.5 GiB"), (2**50, "1024.0 TiB")],
)  # fmt: skip
def test_a_size_reads_with_a_binary_unit(size_bytes: float, text: str) -> None:
    """Small numbers have a decimal, large ones none."""
    assert format_bytes(size_bytes) == text

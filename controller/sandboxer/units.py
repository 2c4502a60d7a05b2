"""
Durations and quantities as users write them: `90s`, `1h30m`, `512Mi`, `500m`.

The types are strings that have been checked, so a manifest keeps the exact text its author wrote
(`spec` is never changed by us) and code reads the number through a property with its unit.
"""

from __future__ import annotations

import re
from typing import Any, ClassVar, Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_DURATION_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_DECIMAL = {"k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
_NUMBER_AND_UNIT = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])", re.ASCII)


class _CheckedText(str):
    """A string type whose values match `pattern`; invalid text raises ValueError."""

    __slots__ = ()
    pattern: ClassVar[re.Pattern[str]]
    example: ClassVar[str]

    def __new__(cls, text: str) -> Self:
        # NOTE: 64 characters bound the work of the regular expression and of float().
        if len(text) > 64 or not cls.pattern.fullmatch(text):  # noqa: PLR2004 - see above
            msg = f"{text[:64]!r} is not a {cls.__name__.lower()}; write it like {cls.example}"
            raise ValueError(msg)
        return super().__new__(cls, text)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_after_validator_function(
            cls,
            core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                str, return_schema=core_schema.str_schema()
            ),
        )

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {
            "type": "string",
            "pattern": f"^({cls.pattern.pattern})$",
            "maxLength": 64,
            "example": cls.example,
        }


# Seconds; ten years. More is a slip of the keyboard, and would leave the range of `datetime`.
MAX_DURATION_S = 10 * 365 * 86400.0


class Duration(_CheckedText):
    """
    A length of time in Go's form, largest unit first: `1h30m`, `90s`, `250ms`, `7d`.

    More than nothing and at most ten years.
    """

    __slots__ = ()
    pattern = re.compile(r"([0-9]+(\.[0-9]+)?(ms|s|m|h|d))+", re.ASCII)
    example = "1h30m"

    def __new__(cls, text: str) -> Self:
        """Check the text's form and its range."""
        duration = super().__new__(cls, text)
        if not 0 < duration.seconds <= MAX_DURATION_S:
            msg = f"{text!r} is out of range; a duration is more than 0s and at most 3650d"
            raise ValueError(msg)
        return duration

    @property
    def seconds(self) -> float:
        """The length in seconds."""
        return sum(
            float(number) * _DURATION_SECONDS[unit]
            for number, unit in _NUMBER_AND_UNIT.findall(self)
        )


class Quantity(_CheckedText):
    """A size in bytes in Kubernetes' form: `512Mi`, `2Gi`, `1G`, `1048576`."""

    __slots__ = ()
    pattern = re.compile(r"[0-9]+(\.[0-9]+)?(Ki|Mi|Gi|Ti|k|M|G|T)?", re.ASCII)
    example = "512Mi"

    @property
    def size_bytes(self) -> int:
        """The size in bytes, rounded down."""
        for suffix, factor in (_BINARY | _DECIMAL).items():
            if self.endswith(suffix):
                return int(float(self.removesuffix(suffix)) * factor)
        return int(float(self))


class CPUQuantity(_CheckedText):
    """A share of processors in Kubernetes' form: `2`, `0.5`, `500m`."""

    __slots__ = ()
    pattern = re.compile(r"[0-9]+(\.[0-9]{1,3})?|[0-9]+m", re.ASCII)
    example = "500m"

    @property
    def cores(self) -> float:
        """The share as a number of cores."""
        return int(self[:-1]) / 1000 if self.endswith("m") else float(self)


def format_duration(seconds: float) -> str:
    """Return a length of time the way kubectl prints an age: `45s`, `12m`, `3h5m`, `2d4h`."""
    total = max(0, int(seconds))
    if total < 120:  # noqa: PLR2004 - kubectl shows seconds up to two minutes
        return f"{total}s"
    minutes, rest_s = divmod(total, 60)
    if minutes < 10:  # noqa: PLR2004 - and minutes with seconds up to ten
        return f"{minutes}m{rest_s}s" if rest_s else f"{minutes}m"
    hours, rest_m = divmod(minutes, 60)
    if hours < 3:  # noqa: PLR2004 - minutes alone up to three hours
        return f"{minutes}m"
    if hours < 48:  # noqa: PLR2004 - hours up to two days
        return f"{hours}h{rest_m}m" if rest_m and hours < 8 else f"{hours}h"  # noqa: PLR2004
    days, rest_h = divmod(hours, 24)
    return f"{days}d{rest_h}h" if rest_h and days < 8 else f"{days}d"  # noqa: PLR2004


def format_bytes(size_bytes: float) -> str:
    """Return a size with a binary unit and at most one decimal: `512 B`, `1.5 GiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:  # noqa: PLR2004 - the binary step
            return f"{size:.0f} {unit}" if unit == "B" or size >= 10 else f"{size:.1f} {unit}"  # noqa: PLR2004
        size /= 1024
    return f"{size:.1f} TiB"

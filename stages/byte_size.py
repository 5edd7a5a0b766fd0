"""Sizes with units, such as 50GB."""

import re
from decimal import Decimal

_UNITS = {"B": 0, "KB": 3, "MB": 6, "GB": 9, "TB": 12, "PB": 15}
_SIZE = re.compile(r"^([0-9]+(?:\.[0-9]+)?) ?([A-Za-z]+)$")


def parse_size(value: object) -> int:
    """Bytes in ``50GB``, ``1.5 TB`` or a whole number; units are decimal (1 GB = 10^9 bytes). Raises ValueError."""
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value
    found = _SIZE.match(value) if isinstance(value, str) else None
    unit = found.group(2).upper() if found else ""
    size = Decimal(found.group(1)).scaleb(_UNITS[unit]) if found and unit in _UNITS else Decimal(0)
    if size < 1 or size != int(size):
        raise ValueError("must be a size above 0, such as 50GB; units: B, kB, MB, GB, TB, PB (1 GB = 10^9 bytes)")
    return int(size)


def size_text(size: float) -> str:
    """Bytes as text in decimal units, with three digits: 512 B, 64.3 MB, 1.51 TB."""
    for unit, power in reversed(_UNITS.items()):
        if size >= 10**power or not power:
            return f"{size / 10**power:.3g} {unit}" if size < 999.5 * 10**power else f"{size / 10**power:,.0f} {unit}"
    raise AssertionError("bytes are the smallest unit")

"""The labels of students whose blocks give none."""

import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any


def derived_label(start: Mapping[str, Any]) -> str:
    """The label of a student whose block has none, from its keys ``start`` and those of its ``StartBlock``."""
    cut = start.get("cut")
    if cut is not None:
        return "-".join((*([cut.of] if cut.of != "teacher" else []), "layers", *map(str, cut.layers)))[:80]
    if start.get("bilstm") is not None:
        return "bilstm"
    if start.get("config") is not None:
        return f"fresh-{_last_part(start['config'].model)}"[:80]
    network = start.get("network")
    if network is not None:
        return f"{network.family}-{network.depth}"
    return _last_part(start.get("model") or start.get("start") or "")


def _last_part(model: str) -> str:
    """The last part of a model's name or path, as a label."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", PurePosixPath(model).name).strip("-.")[:80] or "student"

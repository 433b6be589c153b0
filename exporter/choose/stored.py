"""choose.json: a comparison on disk, and back."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from exporter.choose.results import Budget, Comparison, Latency, Outcome
from exporter.choose.state import write_json
from models.errors import UserError

SCHEMA = 1
FILE = "choose.json"


def save(comparison: Comparison, folder: Path) -> Path:
    """Write choose.json, beside and renamed: `Comparison` field by field, and a schema number."""
    path = folder / FILE
    write_json(path, {"schema": SCHEMA, **asdict(comparison)})
    return path


def load(path: Path) -> Comparison:
    """Read what `save` wrote.

    Raises:
        UserError: it cannot be read, or another version wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        schema = content.pop("schema")
        if schema != SCHEMA:
            raise ValueError(f"its schema is {schema!r}, this exporter reads {SCHEMA}")
        content["outcomes"] = tuple(_outcome(one) for one in content["outcomes"])
        content["budget"] = Budget(**content["budget"])
        content["notes"] = tuple(content["notes"])
        return Comparison(**content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{path} cannot be read.", str(error), "run 'exporter choose' again"
        ) from error


def _outcome(content: dict[str, Any]) -> Outcome:
    latency = {key: Latency(**held) for key, held in content["latency"].items()}
    return Outcome(**{**content, "latency": latency})

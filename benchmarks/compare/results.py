"""The results as JSON: everything that a table, a plot or a doubt may need."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from measuring import Measured
from report import limit_of, verdicts

__all__ = ["as_json", "save"]


def as_json(rows: Mapping[str, Measured]) -> dict[str, Any]:
    """The rows with all raw figures."""
    return {
        name: {
            "what": measured.row.what,
            "unit": measured.row.unit,
            "skipped": measured.row.missing or None,
            "systems": {
                system: {
                    "elements": reading.elements,
                    "rounds": reading.rounds,
                    "median": reading.median,
                    "spread": reading.spread,
                }
                for system, reading in measured.readings.items()
            },
            "failures": dict(measured.failures),
            "limit": limit_of(measured),
            "aims": [
                {
                    "words": words,
                    "reached": verdict.reached if verdict else None,
                    "found": verdict.found if verdict else None,
                }
                for words, verdict in verdicts(name, rows)
            ],
        }
        for name, measured in rows.items()
    }


def save(path: Path, about: Mapping[str, Any], rows: Mapping[str, Measured]) -> None:
    """Write what was measured, after what the reader has to know about it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**about, "rows": as_json(rows)}, indent=1, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")

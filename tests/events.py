"""What TensorBoard shows of a run."""

from pathlib import Path
from typing import Any

import numpy as np


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """name -> (step, value) of all events in the folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    return {
        name: [(event.step, event.value) for event in events.Scalars(name)]
        for name in events.Tags()["scalars"]
    }


def assert_shows(folder: Path, records: list[dict[str, Any]]) -> None:
    """The events are the numbers of these records, in TensorBoard's float32."""
    expected: dict[str, list[tuple[int, float]]] = {}
    for record in records:
        for name, value in record.items():
            if name not in ("step", "time") and not isinstance(value, str):
                expected.setdefault(name, []).append((record["step"], float(np.float32(value))))
    assert expected
    assert scalars(folder) == expected

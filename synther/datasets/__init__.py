"""A data set's name or path goes in, ``Transitions`` come out.

Read ``load.py`` first: it finds out which kind of data set a name stands for. ``d4rl.py``,
``minari.py``, ``ogbench.py`` and ``files.py`` know one kind each, ``qlearning.py`` turns rows of
episodes into transitions, and ``convert.py`` takes what other libraries hold in memory.
``action_units.py`` finds out in which units actions are. V-D4RL's pictures are ``vd4rl.py``'s; the
two ``*_writer.py`` go the other way. ``collect.py`` makes data sets of the kinds that D4RL has,
with what ``recording.py`` plays and with SAC.
"""

from synther.datasets.action_units import in_action_bounds, with_action_bounds
from synther.datasets.convert import as_transitions
from synther.datasets.download import DownloadError
from synther.datasets.load import (
    DatasetInfo,
    DatasetNotFoundError,
    dataset_info,
    list_datasets,
    load_dataset,
)

__all__ = [
    "DatasetInfo",
    "DatasetNotFoundError",
    "DownloadError",
    "as_transitions",
    "dataset_info",
    "in_action_bounds",
    "list_datasets",
    "load_dataset",
    "with_action_bounds",
]

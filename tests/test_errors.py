"""Errors that carry what they are about."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

from gfocal.errors import BrokenInputError, UsageError


def test_a_broken_input_carries_its_file_and_reason_wherever_it_goes() -> None:
    error = BrokenInputError("a.txt: line 3: 4 numbers; correct it", "a.txt", "line 3: 4 numbers")
    for same in (error, pickle.loads(pickle.dumps(error)), copy.copy(error), copy.deepcopy(error)):
        assert isinstance(same, UsageError)
        assert str(same) == "a.txt: line 3: 4 numbers; correct it"
        assert (same.path, same.reason) == (Path("a.txt"), "line 3: 4 numbers")

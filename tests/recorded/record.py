"""Make the recorded answers from the full files: ``PYTHONPATH=tests python tests/recorded/record.py FOLDER``.

The inputs that are drawn again must be those of the full files, or nothing is written.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from helpers.known_answers import HEADS, RECORDED, WHOLE, head_inputs, write


def main(folder: Path) -> None:
    for name in HEADS:
        full = dict(np.load(folder / f"head_{name}.npz"))
        for key, value in head_inputs(name).items():
            np.testing.assert_allclose(value, full.pop(key), rtol=1e-4, atol=1e-6, err_msg=f"{name}: {key}")
        # Candidates before suppression are many, and the detections follow from them.
        write(RECORDED / f"head_{name}.npz", {k: v for k, v in full.items() if not k.startswith("raw_")})
    for model in WHOLE:
        write(RECORDED / f"whole_{model}.npz", dict(np.load(folder / f"whole_{model}.npz")))


if __name__ == "__main__":
    main(Path(sys.argv[1]))

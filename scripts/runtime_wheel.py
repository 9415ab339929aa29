"""Make the wheel of gfocal-runtime of that of gfocal: the same modules for machines that only run exported files.

    python -m build --wheel
    python scripts/runtime_wheel.py dist/gfocal-*.whl          # prints the path of the other wheel, in the same folder

An extra can only add to what a wheel requires, never take torch away; so this is a distribution of its own, with the
requirements of gfocal but torch and what works with torch alone. Needs the package wheel.
"""

from __future__ import annotations

import email
import email.policy
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from gfocal.errors import OF_TORCH

NAME = "gfocal-runtime"
EXTRAS = ("onnx", "openvino", "supervision")
LEFT_OUT = {*OF_TORCH, "onnx", "onnxscript"}  # the last two write files, and read those of others
SUMMARY = "Run object detectors that gfocal exported, without torch"
DESCRIPTION = """\
gfocal for machines that only run exported detectors: `gfocal predict`, `gfocal eval`, and in Python
`gfocal.load(file).predict(image)`.

    pip install 'gfocal-runtime[onnx]'          # files for onnxruntime
    pip install 'gfocal-runtime[openvino]'      # files for OpenVINO

The modules are those of the distribution gfocal, which also trains and exports, and needs torch. Install one of
the two.
"""


def keep(line: str) -> bool:
    """Whether the runtime requires what a Requires-Dist asks for."""
    requirement = Requirement(line)
    marker = str(requirement.marker or "")
    wanted = "extra ==" not in marker or any(f'extra == "{name}"' in marker for name in EXTRAS)
    return wanted and requirement.name not in LEFT_OUT


def runtime_metadata(text: str) -> str:
    """METADATA of gfocal's wheel as that of the runtime's."""
    message = email.message_from_string(text)
    required = [line for line in message.get_all("Requires-Dist", []) if keep(line)]
    for name in ("Name", "Summary", "Requires-Dist", "Provides-Extra"):
        del message[name]
    message["Name"], message["Summary"] = NAME, SUMMARY
    for extra in EXTRAS:
        message["Provides-Extra"] = extra
    for line in required:
        message["Requires-Dist"] = line
    message.set_payload(DESCRIPTION)
    return message.as_string(policy=email.policy.compat32.clone(max_line_length=0))


def make(wheel: Path) -> Path:
    """Write the runtime's wheel beside gfocal's."""
    name, version, _, _ = parse_wheel_filename(wheel.name)
    if name != "gfocal":
        sys.exit(f"{wheel} is not a wheel of gfocal")
    with tempfile.TemporaryDirectory() as work:
        run("unpack", "--dest", work, str(wheel))
        tree = Path(work, f"gfocal-{version}")
        own = tree / f"gfocal_runtime-{version}.dist-info"
        (tree / f"gfocal-{version}.dist-info").rename(own)
        (own / "RECORD").unlink()  # packing writes it anew
        metadata = own / "METADATA"
        metadata.write_text(runtime_metadata(metadata.read_text(encoding="utf-8")), encoding="utf-8")
        run("pack", "--dest-dir", str(wheel.parent), str(tree))
    return wheel.with_name(wheel.name.replace("gfocal-", "gfocal_runtime-", 1))


def run(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "wheel", *words], check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python scripts/runtime_wheel.py dist/gfocal-VERSION.whl")
    print(make(Path(sys.argv[1])))

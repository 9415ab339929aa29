#!/usr/bin/env bash
# Builds the wheel, installs it into a new environment and uses it there, from another folder.
# The dependencies (torch above all) are borrowed from the environment of the Python given as first argument.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${1:-.venv/bin/python}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
unset PYTHONPATH

# From a copy: a build folder left in the checkout would put deleted modules into the wheel.
mkdir "$work/source" "$work/elsewhere"
cp -R pyproject.toml README.md LICENSE src "$work/source/"
find "$work/source" \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
if ! "$python" -m build --wheel --no-isolation --outdir "$work/dist" "$work/source" > "$work/build.log" 2>&1; then
  cat "$work/build.log" >&2
  exit 1
fi

"$python" -m venv --without-pip "$work/env"
"$python" -m pip --quiet --disable-pip-version-check --python "$work/env/bin/python" \
  install --no-deps --no-index "$work"/dist/*.whl
# Only now, or pip would see the development install behind this path. Its own .pth files are not read from there,
# so that install stays invisible.
"$python" - "$work/env" << 'EOF'
import sys, sysconfig
from pathlib import Path
site = Path(sysconfig.get_path("purelib", vars={"base": sys.argv[1]}))
(site / "borrowed.pth").write_text(sysconfig.get_path("purelib") + "\n")
EOF

source=$PWD/src/gfocal
cd "$work/elsewhere"
"$work/env/bin/python" - "$source" "$work/env" << 'EOF'
import importlib.metadata, sys
from pathlib import Path
import torch
import gfocal
from gfocal.losses import quality_focal_loss

source, env = Path(sys.argv[1]), Path(sys.argv[2]).resolve()
installed = Path(gfocal.__file__).resolve().parent
assert installed.is_relative_to(env), f"gfocal comes from {installed}, not from the wheel"
assert importlib.metadata.version("gfocal") == gfocal.__version__, "the metadata has another version"
wanted = {"py.typed", *(str(p.relative_to(source)) for g in ("**/*.py", "**/*.toml", "recipes/*.yaml", "**/templates/*") for p in source.glob(g))}
missing = sorted(name for name in wanted if not (installed / name).is_file())
assert not missing, f"missing in the wheel: {missing}"
licences = [f for f in importlib.metadata.files("gfocal") or () if f.name == "LICENSE"]
assert licences, "the licence is not in the wheel"
# sigma = 1/2 against 0.8: 0.3 ** 2 * ln 2
loss = quality_focal_loss(torch.zeros(1, 1), (torch.tensor([0]), torch.tensor([0.8])), reduction="sum")
assert abs(loss.item() - 0.0623832) < 1e-6, loss
print(f"wheel: gfocal {gfocal.__version__}, {len(wanted)} files")
EOF
"$work/env/bin/gfocal" --version
"$work/env/bin/gfocal" recipes --json | "$work/env/bin/python" -c 'import json, sys; assert json.load(sys.stdin)'
echo "wheel: installed and used"

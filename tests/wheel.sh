#!/usr/bin/env bash
# Does a wheel work for who has nothing else? A new environment with the core dependencies alone: the help, and an evaluation of a tiny model.
# bash tests/wheel.sh dist/sparring-*.whl
set -euo pipefail
wheel=$(realpath "$1")
place=$(mktemp -d)
trap 'rm -rf "$place"' EXIT
python3 -m venv "$place/venv"
"$place/venv/bin/python" -m pip install --quiet "$wheel"
cd "$place"
cat > tiny.py <<'PY'
import numpy as np
import torch

def load():
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 4)).eval()

if __name__ == "__main__":
    x = np.random.default_rng(0).integers(0, 256, (24, 4, 4, 3), dtype=np.uint8)
    y = load()(torch.from_numpy(x.transpose(0, 3, 1, 2) / 255).float()).argmax(1).numpy()
    np.savez("images.npz", x=x, y=y)
PY
venv/bin/python tiny.py
venv/bin/sparring --help > /dev/null
venv/bin/sparring evaluate python:tiny:load --data images.npz --defense cd:bits=4 --attack pgd:eps=8/255,steps=10 --out run --html page.html > out.txt
grep -q "robust accuracy at most" out.txt
test -s page.html
echo "the wheel works"

"""What threads that wait for each other cost where something else is at work: a forward of EfficientNet-Lite0 on photos with as many threads as
processors, by how long libgomp's threads look before they sleep, alone and beside one busy process.

``python benchmarks/threads.py [--rounds 3]``: milliseconds an image, the best of the rounds; the settings take turns.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import ExitStack

from sparring.cli import SPINS

SETTINGS = {
    "as libgomp does": {},
    f"GOMP_SPINCOUNT={SPINS}": {"GOMP_SPINCOUNT": SPINS},
    "asleep at once": {"OMP_WAIT_POLICY": "PASSIVE"},
}
FORWARD = """
import time, torch, timm
net = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval().to(memory_format=torch.channels_last)
x = torch.rand(8, 3, 224, 224).to(memory_format=torch.channels_last)
with torch.no_grad():
    net(x)
    start = time.perf_counter()
    for _ in range(6):
        net(x)
print((time.perf_counter() - start) / 48 * 1000)
"""


def forward(setting: dict[str, str]) -> float:
    """Milliseconds an image in a fresh process, on all processors."""
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "MKL_", "GOMP_"))}
    answer = subprocess.run(
        [sys.executable, "-c", FORWARD], env=plain | setting, capture_output=True, text=True, check=True
    )
    return float(answer.stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    rounds = parser.parse_args().rounds
    for beside in (0, 1):
        with ExitStack() as stack:
            for _ in range(beside):
                stack.callback(subprocess.Popen([sys.executable, "-c", "while True: pass"]).kill)
            times: dict[str, list[float]] = {name: [] for name in SETTINGS}
            for _ in range(rounds):
                for name, setting in SETTINGS.items():
                    times[name].append(forward(setting))
        for name, each in times.items():
            print(
                f"{name:24s} {'beside a busy process' if beside else 'alone':22s} {min(each):6.1f} ms, worst {max(each):6.1f}"
            )


if __name__ == "__main__":
    main()

"""Train the small CNN on the embedded digits, defend it with color depth, and evaluate it: about a minute."""

from pathlib import Path

import sparring
from sparring.training.classifier import train_classifier
from sparring.training.loop import LoopConfig

weights = Path("small_cnn.safetensors")
if not weights.exists():
    train_classifier(sparring.load_data("mnist5k:split=train"), LoopConfig(epochs=2), weights)

result = sparring.evaluate(
    f"small_cnn:weights={weights}",
    "mnist5k:limit=60",
    defenses=["cd:bits=1"],
    threats=["oblivious", "adaptive"],
    attacks=["ddn:steps=20", "pgd:eps=0.2,steps=10"],
)
for line in result.headlines:
    print(line)

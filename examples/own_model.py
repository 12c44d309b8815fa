"""Train the small CNN on the embedded digits, defend it with color depth, and evaluate it: about a minute."""

from pathlib import Path

import sparring

weights = Path("small_cnn.safetensors")
if not weights.exists():
    sparring.train("classifier", data="mnist5k:split=train", out=weights, epochs=2)

result = sparring.evaluate(
    f"small_cnn:weights={weights}",
    "mnist5k:limit=60",
    defenses=["cd:bits=1"],
    threats=["oblivious", "adaptive"],
    attacks=["ddn:steps=20", "pgd:eps=0.2,steps=10"],
)
print(result)

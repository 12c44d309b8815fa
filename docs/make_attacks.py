"""Write docs/attacks.md from the docstrings of the attacks: ``python docs/make_attacks.py``."""

from pathlib import Path

from sparring.cli.catalog import catalog

HEAD = """# Attacks

Made from the docstrings by `python docs/make_attacks.py`; `sparring list attacks` prints the same. Fields every attack shares:
`norm`, `eps`, `restarts`, `targets` (aim at this many runner-up classes in turn), `target` (a targeted goal: random, next, least
or a class). `fgsm:target=least` is the least-likely-class FGSM, `fgsm:start=random` starts anywhere in the ball.

- A **budget** attack looks for the best point inside eps; a **minimal** one for the nearest adversarial point, and with `eps=`
  ends where it finds one inside it.
- `mask=` keeps an attack to the pixels of a registered rule (`sparring list masks`): `pgd:eps=8/255,mask=overlap:model=resnet18;share=0.3` moves only the
  30 % that most parameters of that architecture are tied to. It breaks fewer images: where every attack is so kept, P16 fails. From Python any mask of the
  ball: `attack(...).run(model, x, y, mask=m)` with m (N,1,H,W) of 0 and 1.
- A query budget is the seat's (`score:queries=500`) or the call's (`run(..., queries=500)`): what it cannot pay for does not count.
- Decision attacks begin at given points with `run(..., start=points)`, else at random images.
- Attacks of other libraries sit in any gradient seat: `torchattacks.PGD:eps=8/255,steps=40`, `foolbox.L2DeepFoolAttack:norm=l2`
  (extra `peers`). The Law does not hold for them.

| attack | norms | goal | needs | source |
|---|---|---|---|---|
"""


def page() -> str:
    """The page's text."""
    rows, sections = [], []
    for a in catalog("attacks"):
        source, fields = ", ".join(a["source"]) or "-", ", ".join(f"`{f['name']}={f['default']}`" for f in a["fields"])
        rows.append(
            f"| [`{a['name']}`](#{a['name']}) | {', '.join(a['norms'])} | {a['goal']} | {a['needs']} | {source} |"
        )
        sections += [f"## {a['name']}", "", a["doc"], "", f"Fields: {fields or 'none'}.", ""]
    return HEAD + "\n".join(rows) + "\n\n" + "\n".join(sections)


if __name__ == "__main__":
    Path(__file__).with_name("attacks.md").write_text(page())

"""``sparring analyze patches`` and ``cues``: what a network reads, shapes or textures."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from sparring.cli.analyze import Data, Json, Limit, Png, analyze, table_of
from sparring.cli.output import emit
from sparring.core.errors import SparringError

Models = Annotated[
    list[str], typer.Argument(help="model specs, one or more; all see the same images", show_default=False)
]


def _share(right: Any) -> str:
    """'43.0 % [38.1, 48.0]' of a bool tensor."""
    from sparring.evaluation.stats import wilson

    k, n = int(right.sum()), len(right)
    low, high, _ = wilson(k, n)
    return f"{100 * k / n:.1f} % [{100 * low:.1f}, {100 * high:.1f}]" if n else "no images"


@analyze.command(
    epilog="Example: sparring analyze patches trained:plain.safetensors trained:defective.safetensors --data test.npz --png patches.png"
)
def patches(
    models: Models,
    data: Data,
    sides: Annotated[str, typer.Option(help="k of the k x k patches, joined by commas")] = "2,4,8",
    confidence: Annotated[
        float, typer.Option(help="least softmax probability on the whole image (paper's code: .99)")
    ] = 0,
    stylized: Annotated[
        str, typer.Option(help="folder of restyled images whose names are the ids of --data (class folders included)")
    ] = "",
    limit: Limit = 1000,
    seed: Annotated[int, typer.Option(help="seed of the permutations")] = 0,
    png: Png = None,
    json_out: Json = False,
) -> None:
    """Accuracy on shuffled patches (defective paper, Tables 1 and 11) and on stylized images, over images that all models get
    right when whole.
    """
    from sparring.analysis.shape import confidences, patch_shuffle, right_for_all
    from sparring.core.noise import Noise, image_keys
    from sparring.data.sources import load_data
    from sparring.models.load import load_model
    from sparring.report.maps import save_sheet

    ks = [int(k) for k in sides.split(",") if k.strip().isdigit()]
    if not ks:
        raise SparringError(f"--sides {sides}: give whole numbers joined by commas, such as 2,4,8")
    images = load_data(data, limit=limit)
    networks = {m: load_model(m) for m in models}
    kept = right_for_all(networks, images.x, images.y, confidence)
    if not bool(kept.any()):
        raise SparringError(
            f"no image of {data} is right, with confidence {confidence:g}, for all {len(models)} models"
        )
    chosen = images.at(kept.nonzero()[:, 0].tolist())
    noise = Noise.of(seed, "patches", image_keys(chosen.ids))
    shown = {"whole": chosen.x, **{f"{k} x {k}": patch_shuffle(chosen.x, k, noise) for k in ks}}
    truth = dict.fromkeys(shown, chosen.y)
    if stylized:
        style = load_data(stylized)
        where = {name: i for i, name in enumerate(style.ids)}
        both = [i for i, name in enumerate(chosen.ids) if name in where]
        if not both:
            raise SparringError(
                f"--stylized {stylized}: no image there has the name of one of {data} that all models get right"
            )
        shown["stylized"] = style.x[[where[chosen.ids[i]] for i in both]]
        truth["stylized"] = chosen.y[both]
    right = {m: {n: confidences(f, x)[0] == truth[n] for n, x in shown.items()} for m, f in networks.items()}
    if png:
        save_sheet({n: x[:6] for n, x in shown.items()}, png, f"{data}, permutations of seed {seed}")
    rows = [[m, *(_share(v) for v in found.values())] for m, found in right.items()]
    title = (
        f"n={len(chosen)} of {len(images)} images that all {len(models)} models get right, confidence >= {confidence:g}"
    )
    counts = {m: {n: {"right": int(v.sum()), "n": len(v)} for n, v in found.items()} for m, found in right.items()}
    emit(counts, table_of(title, ["model", *shown], rows), json_out)


@analyze.command(
    epilog="Example: sparring analyze cues trained:plain.safetensors trained:defective.safetensors --png cues.png"
)
def cues(
    models: Models,
    count: Annotated[int, typer.Option(help="number of images of each kind")] = 1000,
    size: Annotated[int, typer.Option(help="their side")] = 32,
    seed: Annotated[int, typer.Option(help="seed of the pictures")] = 0,
    png: Png = None,
    json_out: Json = False,
) -> None:
    """Whether models read shapes or textures: drawn pictures whose two cues belong to different classes. The models must know
    these classes: ``sparring train classifier --data cues:split=train``.
    """
    from sparring.analysis.shape import confidences, cue_decisions
    from sparring.data.cues import cue_images
    from sparring.models.load import load_model
    from sparring.report.maps import save_sheet

    agree, _ = cue_images("test", count, size, seed)
    conflict, texture = cue_images("conflict", count, size, seed)
    rows, found = [], {}
    for name in models:
        network = load_model(name)
        right = confidences(network, agree.x)[0] == agree.y
        read = cue_decisions(network, conflict.x, conflict.y, texture)
        found[name] = {"agree": int(right.sum()), **read._asdict(), "shape_bias": read.bias}
        shares = [f"{100 * v / read.n:.1f} %" for v in (read.shape, read.texture)]
        rows.append([name, _share(right), *shares, f"{read.bias:.3f}"])
    if png:
        save_sheet({"agree": agree.x[:8], "conflict": conflict.x[:8]}, png, f"cues, seed {seed}")
    table = table_of(
        f"cues that agree and that conflict, n={count} each", ["model", "agree", "shape", "texture", "shape bias"], rows
    )
    emit(found, table, json_out)

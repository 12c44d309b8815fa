"""``sparring analyze``: figures about networks and gradients, as tables on stdout and pictures on request."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from sparring.cli.output import emit, many
from sparring.core.errors import SparringError

analyze = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Why a defense works, or seems to: gradients, perturbations, pixels.",
    epilog="Example: sparring analyze pixels cifar_resnet20:weights=W.safetensors --data test.npz --png pixels.png",
)

Model = Annotated[str, typer.Argument(help="model spec", show_default=False)]
Data = Annotated[str, typer.Option("--data", help="images", show_default=False)]
Png = Annotated[Path | None, typer.Option(help="write the picture here")]
Limit = Annotated[int, typer.Option(help="use only the first N images")]
Json = Annotated[bool, typer.Option("--json", help="machine-readable output on stdout")]
Attack = Annotated[str, typer.Option(help="attack whose perturbation is looked at, made on the undefended model")]


def _given(model: str, data: str, limit: int, defense: str = "none") -> Any:
    from sparring.evaluation.setup import set_up

    return set_up(model, data, [defense], limit=limit)


def _points(made: Any, attack: str) -> Any:
    from sparring.attacks.attack import attack as make

    return (
        make(attack).run(made.prepared.model, made.images.x, made.images.y, ids=list(made.images.ids), stop="never").x
    )


def table_of(title: str, head: list[str], rows: list[list[str]]) -> Any:
    from rich.table import Table

    table = Table(title=title)
    for i, name in enumerate(head):
        table.add_column(name, justify="left" if i == 0 else "right")
    for row in rows:
        table.add_row(*row)
    return table


@analyze.command(epilog="Example: sparring analyze overlap ace_resnet:depth=20,lam=10 --png overlap.png")
def overlap(
    model: Model,
    size: Annotated[int, typer.Option(help="height and width of the image")] = 32,
    share: Annotated[float, typer.Option(help="p of G(p): which share of pixels counts as most tied")] = 0.3,
    gain: Annotated[
        float | None, typer.Option(help="of ACE's two layers together; default: the literal all-ones rule")
    ] = None,
    png: Png = None,
    json_out: Json = False,
) -> None:
    """Gradient overlap of an architecture with all parameters 1 (ACE, Table 2, second half): needs no training."""
    from sparring.analysis.overlap import bait_share, gradient_overlap
    from sparring.models.load import load_model
    from sparring.report.maps import save_map

    found = gradient_overlap(load_model(model), size=size, gain=gain)
    value = bait_share(found, share)
    if png:
        save_map(found / found.max(), png, f"gradient overlap of {model}")
    text = f"{model}: {100 * value:.1f} % of the {(size + 1) // 2 * ((size + 1) // 2)} pixels of even row and column are among the {100 * share:g} % most tied"
    emit({"model": model, "share": value, "gain": gain}, text, json_out)


@analyze.command(
    epilog="Example: sparring analyze layers MODEL --data test.npz --attack bim:eps=8/255 --defense hgd:weights=lgd.safetensors"
)
def layers(
    model: Model,
    data: Data,
    attack: Attack = "bim:eps=8/255",
    defense: str = "none",
    limit: Limit = 30,
    json_out: Json = False,
) -> None:
    """How a perturbation grows through the layers, before and after a defense, beside noise of the same eps (HGD, Fig. 5)."""
    from sparring.analysis.denoising import perturbation_levels
    from sparring.attacks.attack import attack as make
    from sparring.core.noise import Noise

    made = _given(model, data, limit, defense)
    clean, adversarial = made.images.x, _points(made, attack)
    noise = Noise.of(0, "layers", made.keys)
    sign = noise.sign("sign", clean.shape[1:])
    shown = {"adversarial": adversarial, "random noise": (clean + make(attack).budget * sign).clamp(0, 1)}
    if defense != "none":
        out = adversarial
        for stage in made.systems[defense].stages:
            out = stage(out, noise)
        shown[f"adversarial behind {defense}"] = out
    levels = {
        name: perturbation_levels(made.model.network, *(made_in(made.model, t) for t in (clean, x)))
        for name, x in shown.items()
    }
    names = list(next(iter(levels.values())))
    rows = [[n, *(f"{levels[k][n]:.3f}" for k in levels)] for n in names]
    emit(levels, table_of(f"E_l of {attack} on {model}, mean of n={len(clean)}", ["layer", *levels], rows), json_out)


def made_in(model: Any, x: Any) -> Any:
    """Images as the network inside a classifier sees them."""
    return (x - model.mean) / model.std


@analyze.command(
    epilog="Example: sparring analyze noise MODEL --data test.npz --defense hgd:weights=lgd.safetensors --png noise.png"
)
def noise(
    model: Model,
    data: Data,
    defense: Annotated[str, typer.Option(help="the denoiser")],
    attack: Attack = "bim:eps=8/255",
    limit: Limit = 100,
    png: Png = None,
    json_out: Json = False,
) -> None:
    """True against predicted perturbation and the fitted slope (HGD, Fig. 7): above 1 the denoiser over-corrects."""
    from sparring.analysis.denoising import predicted_perturbation
    from sparring.core.noise import Noise
    from sparring.report.maps import save_map

    made = _given(model, data, limit, defense)
    noisy = _points(made, attack)
    out = noisy
    for stage in made.systems[defense].stages:
        out = stage(out, Noise.of(0, "noise", made.keys))
    found = predicted_perturbation(made.images.x, noisy, out)
    if png:
        save_map(
            found.histogram.float().log1p(),
            png,
            f"slope {found.slope:.2f}, log counts",
            "predicted",
            "true",
            (found.predicted_reach, found.reach),
        )
    emit(
        {"slope": found.slope, "n": found.n, "attack": attack},
        f"{defense}: slope {found.slope:.3f} over {found.n} values of {attack}",
        json_out,
    )


@analyze.command(
    epilog="Example: sparring analyze similarity MODEL --data test.npz --defense s2snet:weights=s2s.safetensors"
)
def similarity(
    model: Model,
    data: Data,
    defense: Annotated[list[str], typer.Option(help="defenses of one learned stage, comma-separated or repeated")],
    limit: Limit = 100,
    json_out: Json = False,
) -> None:
    """SSIM of gradient magnitudes between the classifier, the classifier behind each defense, and the defense's own
    reconstruction; and between the true and another label (S2SNet, sec. 3.2 and Table 1).
    """
    from sparring.analysis.gradients import class_loss, gradient_maps, reconstruction_loss, ssim_matrix
    from sparring.defenses.base import defense as make

    specs = many(defense)
    if not specs:
        raise SparringError("--defense names no defense")
    made = _given(model, data, limit, specs[0])

    x, y, f = made.images.x, made.images.y, made.prepared.model
    other = (y + 1 + (made.keys % (made.classes - 1))) % made.classes
    maps, labels = {"classifier": gradient_maps(class_loss(f, y), x)}, {}
    labels["classifier"] = (maps["classifier"], gradient_maps(class_loss(f, other), x))
    for spec in specs:
        net = make(spec).install(made.systems["none"]).stages[0].network
        both = lambda u, net=net: f(net(u))  # noqa: E731
        maps[f"classifier behind {spec}"] = gradient_maps(class_loss(both, y), x)
        labels[spec] = (maps[f"classifier behind {spec}"], gradient_maps(class_loss(both, other), x))
        maps[f"{spec} alone"] = gradient_maps(reconstruction_loss(net), x)
    found = ssim_matrix(maps)
    between = {k: ssim_matrix({"true": a, "other": b})["true"]["other"] for k, (a, b) in labels.items()}
    names = list(maps)
    rows = [[f"{i + 1} {a}", *(f"{found[a][b]:.3f}" for b in names)] for i, a in enumerate(names)]
    table = table_of(
        f"mean SSIM of gradient magnitudes, n={len(x)}", ["source", *(str(i + 1) for i in range(len(names)))], rows
    )
    emit({"ssim": found, "true_against_other_label": between}, table, json_out)
    if not json_out:
        emit({}, "true against another label: " + ", ".join(f"{k} {v:.3f}" for k, v in between.items()), False)


@analyze.command(epilog="Example: sparring analyze pixels MODEL --data test.npz --limit 50 --png pixels.png")
def pixels(model: Model, data: Data, limit: Limit = 50, png: Png = None, json_out: Json = False) -> None:
    """Which single pixel, made white, changes labels (ACE, Fig. 2), and how gradients spread over pixel classes."""
    from sparring.analysis.gradients import class_loss, class_shares, gradient_maps, white_pixel_map
    from sparring.report.maps import save_map

    made = _given(model, data, limit)
    x, y, f = made.images.x, made.images.y, made.prepared.model
    found = white_pixel_map(f, x, y)
    shares = class_shares(gradient_maps(class_loss(f, y), x)[:, None])
    if png:
        save_map(found, png, f"P(label changes | pixel white), n={len(x)}")
    text = f"a white pixel changes {100 * float(found.mean()):.2f} % of right labels, at worst {100 * float(found.max()):.1f} % (n={len(x)})\n"
    text += "share of gradient on (even row, even column), (even, odd), (odd, even), (odd, odd): " + ", ".join(
        f"{100 * float(s):.1f} %" for s in shares.flatten()
    )
    emit(
        {
            "mean": float(found.mean()),
            "max": float(found.max()),
            "class_shares": shares.flatten().tolist(),
            "n": len(x),
        },
        text,
        json_out,
    )


@analyze.command(epilog="Example: sparring analyze labels MODEL --data test.npz --image 3 --reach 20 --png labels.png")
def labels(
    model: Model,
    data: Data,
    png: Annotated[Path, typer.Option(help="write the picture here")],
    image: Annotated[int, typer.Option(help="number of the image in the set")] = 0,
    reach: Annotated[float, typer.Option(help="how far to go along each axis, l2")] = 10.0,
    points: Annotated[int, typer.Option(help="points along each axis")] = 41,
    json_out: Json = False,
) -> None:
    """Labels around one image along its gradient on and off the bait pixels (ACE, Fig. 4 and 8)."""
    import torch

    from sparring.analysis.gradients import class_loss, label_map
    from sparring.analysis.overlap import bait_pixels
    from sparring.report.maps import save_map

    made = _given(model, data, image + 1)
    if image >= len(made.images):
        raise SparringError(f"--image {image}: the set has {len(made.images)} images")
    x, y, f = made.images.x[image : image + 1], made.images.y[image : image + 1], made.prepared.model
    with torch.enable_grad():
        leaf = x.clone().requires_grad_(True)
        (grad,) = torch.autograd.grad(class_loss(f, y)(leaf).sum(), leaf)
    found = label_map(f, x, grad, bait_pixels(*x.shape[-2:]), reach, points)
    save_map(
        found,
        png,
        f"labels around {made.images.ids[image]}",
        "along the gradient on bait pixels",
        "off bait pixels",
        (reach, reach),
    )
    kept = float((found == found[points // 2, points // 2]).double().mean())
    emit(
        {"kept": kept, "labels": found.tolist()},
        f"{png}: {100 * kept:.1f} % of the map keeps the label at its centre",
        json_out,
    )


@analyze.command(
    epilog="Example: sparring analyze heatmap ace_resnet:weights=W,lam=10 --data test.npz --attack pgd:eps=8/255 --png heat.png"
)
def heatmap(
    model: Model,
    data: Data,
    png: Annotated[Path, typer.Option(help="write the picture here")],
    attack: Annotated[str, typer.Option(help="draw mean |x_adv - x| of this attack instead of gradients")] = "",
    layer: Annotated[str, typer.Option(help="gradients at the output of this module instead of the image")] = "",
    limit: Limit = 100,
    json_out: Json = False,
) -> None:
    """Where the gradients are (ACE, Fig. 3, 6, 7), or where an attack's perturbation goes (Fig. 10, 11), pixel by pixel."""
    from sparring.analysis.gradients import class_shares, gradient_heatmap
    from sparring.report.maps import save_map

    made = _given(model, data, limit)
    x, y = made.images.x, made.images.y
    if attack:
        found, what = (_points(made, attack) - x).abs().mean((0, 1)), f"mean |x_adv - x| of {attack}"
    else:
        found, what = gradient_heatmap(made.model, x, y, layer), f"sum of |gradient| at {layer or 'the image'}"
    save_map(found, png, f"{what}, n={len(x)}")
    shares = class_shares(found[None, None]).flatten().tolist()
    text = f"{what}: shares of (even row, even column), (even, odd), (odd, even), (odd, odd): "
    emit({"class_shares": shares, "n": len(x)}, text + ", ".join(f"{100 * s:.1f} %" for s in shares), json_out)

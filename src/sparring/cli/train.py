"""``sparring train``: classifiers, and the networks of the learned defenses. Two scales: small (2 cores, minutes) and paper."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from sparring.cli.output import Bar, emit
from sparring.core.errors import SparringError

train = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Train a classifier or a learned defense; every run resumes.",
    epilog="Example: sparring train classifier --data mnist5k:split=train --out small_cnn.safetensors",
)

Data = Annotated[
    str, typer.Option("--data", help="training images; a share is held out for choosing the epoch", show_default=False)
]
Out = Annotated[Path, typer.Option(help="weights file, FILE.safetensors; card FILE.json and curve FILE.csv beside it")]
Target = Annotated[str, typer.Option(help="the classifier in whose front the network is to stand", show_default=False)]
Scale = Annotated[
    str, typer.Option(help="small: 2 cores, minutes; paper: the paper's network and schedule; classifier also: fast")
]
Epochs = Annotated[int | None, typer.Option(help="default: the scale's")]
Batch = Annotated[int | None, typer.Option(help="default: the scale's")]
Rate = Annotated[float | None, typer.Option(help="learning rate; default: the scale's")]
Ema = Annotated[float | None, typer.Option(help="decay of a moving average of the weights; 0: off")]
Precision = Annotated[str, typer.Option(help="no, bf16 or fp16 (Accelerate's mixed precision)")]
Log = Annotated[Path | None, typer.Option(help="TensorBoard folder")]
Limit = Annotated[int | None, typer.Option(help="draw so many of the images, by --seed")]
Seed = Annotated[int, typer.Option(help="seed of all randomness")]
Json = Annotated[bool, typer.Option("--json", help="the card on stdout")]


def _show(out: Path, spec: str, json_out: bool) -> None:
    from sparring.models.weights import read_card

    if os.environ.get("RANK", "0") != "0":  # of several processes one speaks
        return
    card = read_card(out)
    kept = (
        card["curve"][-1]
        if card["selected_by"] == "last epoch"
        else min(card["curve"], key=lambda c: c["validation_loss"])
    )
    text = f"{out}: validation loss {kept['validation_loss']:.4g}"
    if "validation_accuracy" in kept:
        text += f", accuracy {100 * kept['validation_accuracy']:.1f} %"
    text += f" (epoch {kept['epoch']} of {len(card['curve'])}, {card['selected_by']}), {card['seconds']} s"
    emit(card, f"{text}\nevaluate it as: {spec}", json_out)


def _config(
    scale: str, small: dict[str, Any], paper: dict[str, Any], fast: dict[str, Any] | None = None, **given: Any
) -> Any:
    from sparring.training.loop import LoopConfig, scaled

    scales = {"small": small, **({"fast": fast} if fast else {}), "paper": paper}
    if scale not in scales:
        raise SparringError(f"--scale {scale} is not one of {', '.join(scales)}")
    if given.get("precision") not in ("no", "bf16", "fp16"):
        raise SparringError(f"--precision {given.get('precision')} is not one of no, bf16, fp16")
    return scaled(LoopConfig(**scales[scale]), **given)


@train.command(epilog="Example: sparring train classifier --data mnist5k:split=train --out small_cnn.safetensors")
def classifier(
    data: Data,
    out: Out,
    model: Annotated[
        str, typer.Option(help="small_cnn, cifar_resnet20, ace_resnet:depth=8,lam=10, timm:NAME, ...")
    ] = "small_cnn",
    attack: Annotated[str, typer.Option(help="adversarial training: spec of the attack, pgd:eps=0.1,steps=7")] = "",
    augment: Annotated[bool, typer.Option("--augment", help="random crops and flips")] = False,
    smoothing: Annotated[float, typer.Option(help="label smoothing: share of the other classes")] = 0.0,
    scale: Scale = "small",
    epochs: Epochs = None,
    batch: Batch = None,
    lr: Rate = None,
    ema: Ema = None,
    precision: Precision = "no",
    log: Log = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_out: Json = False,
) -> None:
    """A classifier from nothing. --scale fast: SGD, 30 epochs, rate up to .2 and down, crops and flips, last epoch; paper (the
    defective paper's): SGD, 350 epochs, rate .1 divided by ten at 150 and 250, crops and flips, last epoch.
    """
    from sparring.data.sources import load_data
    from sparring.training.classifier import train_classifier

    paper = {
        "epochs": 350,
        "batch": 128,
        "lr": 0.1,
        "optimizer": "sgd",
        "weight_decay": 5e-4,
        "schedule": "steps",
        "drops": (150, 250),
        "keep": "last",
    }
    fast = {
        "epochs": 30,
        "batch": 128,
        "lr": 0.2,
        "optimizer": "sgd",
        "weight_decay": 5e-4,
        "validation": 0.02,
        "keep": "last",
    }
    config = _config(scale, {}, paper, fast, epochs=epochs, batch=batch, lr=lr, ema=ema, precision=precision, seed=seed)
    images = load_data(data, limit=limit, seed=seed)
    with Bar() as bar:
        trained = train_classifier(
            images,
            config,
            out,
            bar,
            model=model,
            hardening=attack,
            augment=augment or scale != "small",
            smoothing=smoothing,
            log=log,
        )
    _show(out, trained.name.replace(out.name, str(out)), json_out)


@train.command(
    epilog="Example: sparring train adversarial --data mnist5k:split=train --out robust.safetensors --attack pgd:eps=0.15,steps=7,step_size=0.25"
)
def adversarial(
    data: Data,
    out: Out,
    attack: Annotated[
        str, typer.Option(help="the attack whose points are trained on")
    ] = "pgd:eps=8/255,steps=7,step_size=0.25",
    model: Annotated[str, typer.Option(help="spec of the architecture, as for classifier")] = "small_cnn",
    augment: Annotated[bool, typer.Option("--augment", help="random crops and flips")] = False,
    scale: Scale = "small",
    epochs: Epochs = None,
    batch: Batch = None,
    lr: Rate = None,
    precision: Precision = "no",
    log: Log = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_out: Json = False,
) -> None:
    """PGD adversarial training (Madry et al., arXiv:1706.06083): ``classifier`` with an attack."""
    classifier(
        data, out, model, attack, augment, 0.0, scale, epochs, batch, lr, None, precision, log, limit, seed, json_out
    )


@train.command(
    epilog="Example: sparring train attacked --data train.npz --source cifar_resnet20:weights=W.safetensors --out attacked/"
)
def attacked(
    data: Data,
    out: Annotated[Path, typer.Option(help="folder for manifest.json and lossless shards")],
    source: Annotated[list[str], typer.Option(help="classifiers whose gradients make the images, repeated")],
    low: Annotated[int, typer.Option(help="least eps, in 255ths")] = 1,
    high: Annotated[int, typer.Option(help="largest eps, in 255ths")] = 16,
    limit: Limit = None,
    seed: Seed = 0,
) -> None:
    """HGD's training set: FGSM and IFGSM images of several sources, clean and noisy ones. Resumes."""
    from sparring.data.sources import load_data
    from sparring.models.load import load_model
    from sparring.training.attacked import AttackedConfig, make_attacked

    with Bar() as bar:
        made = make_attacked(
            load_data(data, limit=limit, seed=seed),
            [load_model(s) for s in source],
            out,
            AttackedConfig(low, high, seed),
            bar,
        )
    emit(
        {"members": list(made.members), "pairs": len(made)},
        f"{out}: {len(made)} pairs ({', '.join(made.members)})",
        False,
    )


@train.command(
    epilog="Example: sparring train hgd --target cifar_resnet56:weights=W.safetensors --data train.npz --attacked attacked/ --out lgd.safetensors"
)
def hgd(
    target: Target,
    data: Data,
    out: Out,
    attacked: Annotated[
        Path | None, typer.Option(help="folder of ``train attacked``, made from the same images")
    ] = None,
    source: Annotated[
        list[str] | None, typer.Option(help="instead of --attacked: make the pairs online from these")
    ] = None,
    tap: Annotated[
        str, typer.Option(help="what guides it: pixel (PGD), feature (FGD), logits (LGD), label (CGD)")
    ] = "logits",
    feature: Annotated[
        str, typer.Option(help="module of the target whose output is tap=feature; default: its last feature map")
    ] = "",
    width: Annotated[float | None, typer.Option(help="width factor of the DUNET; default: .25 small, 1 paper")] = None,
    levels: Annotated[int | None, typer.Option(help="5, or 4 for 32x32 images; default: by the images")] = None,
    dae: Annotated[bool, typer.Option("--dae", help="the paper's DAE: no laterals, no shortcut")] = False,
    scale: Scale = "small",
    epochs: Epochs = None,
    batch: Batch = None,
    lr: Rate = None,
    ema: Ema = None,
    precision: Precision = "no",
    log: Log = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_out: Json = False,
) -> None:
    """HGD's denoiser (arXiv:1712.02976). paper: full width, Adam .001, a tenth on plateau, batch 60, 30 epochs."""
    from sparring.data.sources import load_data
    from sparring.defenses.learned import build_network
    from sparring.models.load import load_model
    from sparring.training.attacked import AttackedConfig, AttackedSet, OnlineSet
    from sparring.training.frontends import Denoising
    from sparring.training.loop import train as run

    if tap not in ("pixel", "feature", "logits", "label"):
        raise SparringError(f"--tap {tap} is not one of pixel, feature, logits, label")
    if (attacked is None) == (not source):
        raise SparringError("give --attacked FOLDER (from: sparring train attacked) or --source MODEL, one of the two")
    paper = {"epochs": 30, "batch": 60, "lr": 0.001, "schedule": "plateau"}
    config = _config(
        scale,
        {"epochs": 3, "batch": 60, "lr": 0.002},
        paper,
        epochs=epochs,
        batch=batch,
        lr=lr,
        ema=ema,
        precision=precision,
        seed=seed,
    )
    images = load_data(data, limit=limit, seed=seed)
    deep = levels or (4 if images.x.shape[-1] <= 32 else 5)
    thin = width or (0.25 if scale == "small" else 1.0)
    network = {"kind": "dunet", "channels": images.x.shape[1], "width": thin, "levels": deep, "lateral": not dae}
    pairs = (
        AttackedSet(attacked, images)
        if attacked
        else OnlineSet(images, [load_model(m) for m in source or []], AttackedConfig(seed=seed))
    )
    task = Denoising(pairs, load_model(target), build_network(network), tap, {"network": network}, feature)  # type: ignore[arg-type]
    with Bar() as bar:
        run(task, config, out, bar, log)
    _show(out, f"hgd:weights={out}", json_out)


@train.command(
    epilog="Example: sparring train s2snet --target cifar_resnet56:weights=W.safetensors --data train.npz --out s2s.safetensors"
)
def s2snet(
    data: Data,
    out: Out,
    target: Annotated[
        str, typer.Option(help="the classifier that tunes the decoder; without it: the plain autoencoder")
    ] = "",
    start: Annotated[
        Path | None, typer.Option(help="autoencoder weights to begin at; default: trained first, as OUT-autoencoder")
    ] = None,
    scale: Scale = "small",
    epochs: Epochs = None,
    batch: Batch = None,
    lr: Rate = None,
    precision: Precision = "no",
    log: Log = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_out: Json = False,
) -> None:
    """S2SNet (arXiv:1803.07994): an autoencoder without labels, then its decoder by the classifier's gradients."""
    from sparring.data.sources import load_data
    from sparring.defenses.learned import build_network
    from sparring.models.load import load_model
    from sparring.models.unet import SegNet
    from sparring.models.weights import load_weights, read_card
    from sparring.training.frontends import Reconstruction, StructureToSignal
    from sparring.training.loop import train as run

    images = load_data(data, limit=limit, seed=seed)
    stages = SegNet.FULL if scale == "paper" else ((32, 32), (64, 64), (128, 128))
    network: dict[str, Any] = {"kind": "segnet", "channels": images.x.shape[1], "stages": [list(s) for s in stages]}
    small = {"epochs": 8, "batch": 64, "lr": 0.002}
    config = _config(
        scale,
        small,
        {"epochs": 1, "batch": 64, "lr": 0.001, "schedule": "constant"},
        epochs=epochs,
        batch=batch,
        lr=lr,
        precision=precision,
        seed=seed,
    )
    first = out if not target else start or out.with_name(f"{out.stem}-autoencoder.safetensors")
    with Bar() as bar:
        if start is None and not (target and first.exists()):
            run(Reconstruction(images, build_network(network), {"network": network}), config, first, bar, log)
        if target:
            network = read_card(first).get("network", network)
            net = build_network(network)
            load_weights(net, first)
            tuning = _config(
                scale,
                {**small, "epochs": 3, "lr": 0.0005},
                {"epochs": 1, "batch": 64, "lr": 1e-4},
                batch=batch,
                precision=precision,
                seed=seed,
            )
            task = StructureToSignal(images, load_model(target), net, {"network": network, "start": first.name})
            run(task, tuning, out, bar, log)
    _show(out, f"s2snet:weights={out}", json_out)


@train.command(epilog="Example: sparring train ace --data train.npz --out ace.safetensors")
def ace(
    data: Data,
    out: Out,
    scale: Scale = "small",
    epochs: Epochs = None,
    batch: Batch = None,
    lr: Rate = None,
    precision: Precision = "no",
    log: Log = None,
    limit: Limit = None,
    seed: Seed = 0,
    json_out: Json = False,
) -> None:
    """ACE's plug-in: a caged U-Net autoencoder for any trained model. Jointly: ``train classifier --model ace_resnet``."""
    from sparring.data.sources import load_data
    from sparring.defenses.learned import build_network
    from sparring.training.frontends import Reconstruction
    from sparring.training.loop import train as run

    images = load_data(data, limit=limit, seed=seed)
    widths = [32, 64, 128, 256] if scale == "paper" else [16, 32, 64]
    network = {"kind": "caged_unet", "channels": images.x.shape[1], "widths": widths}
    config = _config(
        scale,
        {"epochs": 8, "batch": 64, "lr": 0.002},
        {"epochs": 30, "batch": 64, "lr": 0.001},
        epochs=epochs,
        batch=batch,
        lr=lr,
        precision=precision,
        seed=seed,
    )
    with Bar() as bar:
        run(Reconstruction(images, build_network(network), {"network": network}), config, out, bar, log)
    _show(out, f"shift+ace:weights={out}", json_out)

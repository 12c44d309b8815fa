"""``hf:NAME`` and ``hf:DIR``: image classifiers of transformers, with what their processor says of the images they expect."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sparring.core.errors import SparringError, one_line
from sparring.core.extras import need
from sparring.core.fitting import FILTERS, Fitting
from sparring.core.registry import MODELS
from sparring.models.classifier import Classifier
from sparring.models.outputs import LOGITS, Chosen

RESCALED = 1 / 255  # the factor by which a processor brings bytes to [0,1]
RESAMPLED = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers of filters
Settings = Mapping[str, object]


@MODELS("hf")
def hf_model(path: str) -> Classifier:
    """An image classifier of transformers, by its name on the hub or the folder that save_pretrained wrote (extra ``hub``). Mean, std and size are its
    processor's. Weights are read from safetensors only, and no code that comes with a model is run.
    """
    transformers = need("transformers", "hub")
    text = f"hf:{path}"
    here = {"local_files_only": True} if Path(path).is_dir() else {}
    try:
        settings, _ = transformers.image_processing_base.ImageProcessingMixin.get_image_processor_dict(path, **here)
        network = transformers.AutoModelForImageClassification.from_pretrained(
            path, use_safetensors=True, trust_remote_code=False, output_loading_info=True, **here
        )
    except Exception as error:
        if here and not (Path(path) / "preprocessor_config.json").is_file():
            raise SparringError(
                f"{text} has no preprocessor_config.json, which says the mean, std and size; save the processor beside it: processor.save_pretrained({path!r})"
            ) from None
        raise SparringError(
            f"{text} cannot be loaded ({one_line(error)}); give a name on the hub or a folder of save_pretrained, whose weights are safetensors"
        ) from None
    network, loading = network
    if lacking := [key for kind in ("missing_keys", "mismatched_keys") for key in loading[kind]]:
        raise SparringError(
            f"{text} has no weights for {lacking[0]}: a part of it would be random; give a trained classifier"
        )
    if network.config.problem_type == "multi_label_classification":
        raise SparringError(f"{text} is trained to give several labels to an image; what is measured here is one label")
    mean, std = _statistics(text, settings)
    side, fitting = _sizes(settings)
    return Classifier(Chosen(network.eval(), LOGITS), mean, std, name=text, size=side, fitting=fitting)


def _statistics(text: str, settings: Settings) -> tuple[list[float], list[float]]:
    """Mean and std in units of pixels in [0,1]. Raises SparringError for what a mean and a std cannot say."""
    if settings.get("do_flip_channel_order"):
        raise SparringError(
            f"{text}: its processor turns RGB to BGR, which is not done here; wrap it in a module that does"
        )
    factor = settings.get("rescale_factor", RESCALED)
    plain = settings.get("do_rescale", True) and isinstance(factor, float) and abs(factor - RESCALED) < 1e-9
    if not plain or settings.get("rescale_offset"):
        raise SparringError(
            f"{text}: its processor does not bring pixels to [0,1] first (rescale_factor={factor}); wrap it in a module that does"
        )
    if not settings.get("do_normalize", True):
        return [0.0], [1.0]
    mean, std = settings.get("image_mean"), settings.get("image_std")
    if not isinstance(mean, list) or not isinstance(std, list):
        raise SparringError(
            f"{text}: its processor names no image_mean and image_std; load the module in Python and give mean and std"
        )
    return mean, std


def _sizes(settings: Settings) -> tuple[int | None, Fitting | None]:
    """The side of the square that a network takes, and how pictures are brought to it, where that is a resize of the shorter side and a center crop."""
    size, crop = _side(settings.get("size")), _side(settings.get("crop_size"))
    cut = bool(settings.get("do_center_crop")) and crop is not None
    side = crop if cut else size
    chosen = settings.get("resample")
    named = RESAMPLED.get(chosen) if isinstance(chosen, int) else None
    wanted = settings.get("size")
    shorter = isinstance(wanted, Mapping) and "shortest_edge" in wanted
    if not (cut and shorter and size and crop and crop <= size and named in FILTERS):
        return side, None
    return side, Fitting(crop, crop / size, named)


def _side(size: object) -> int | None:
    """Of a square, whichever way a processor writes it."""
    if isinstance(size, int):
        return size
    sides = {v for v in size.values() if isinstance(v, int)} if isinstance(size, Mapping) else set[int]()
    return sides.pop() if len(sides) == 1 else None

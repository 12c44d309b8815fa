"""Image sets larger than memory: every source gives the same pixels whether they are held or read again, and what it gives is what it gave."""

from __future__ import annotations

import io
import json
import tarfile
import warnings
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import sparring
from sparring.conduct.inventory import read_inventory, write_inventory
from sparring.core.errors import SparringError
from sparring.core.fitting import Fitting
from sparring.data import images as images_module
from sparring.data import stream
from sparring.data.images import ImageSet
from sparring.data.inventory import Inventory
from sparring.data.sources import load_data
from sparring.data.stream import Held, Streamed
from sparring.models.classifier import Classifier
from tests.evaluation.test_several import digest

COUNT = 12
RNG = np.random.default_rng(0)
PICTURES = RNG.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8)
LABELS = [i % 3 for i in range(COUNT)]


def png(picture: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def tar(path, keys, suffix="png", label="cls"):
    with tarfile.open(path, "w") as archive:
        for i in keys:
            for ending, content in ((suffix, png(PICTURES[i])), (label, str(LABELS[i]).encode()), ("json", b"{}")):
                about = tarfile.TarInfo(f"sample{i:03d}.{ending}")
                about.size = len(content)
                archive.addfile(about, io.BytesIO(content))
    return path


def table(path, rows, records=True, names=None, group=5):
    cells = [{"bytes": png(PICTURES[i]), "path": None} if records else png(PICTURES[i]) for i in rows]
    content = pa.table({"image": cells, "label": [LABELS[i] for i in rows]})
    if names:
        told = {"info": {"features": {"label": {"names": names, "_type": "ClassLabel"}}}}
        content = content.replace_schema_metadata({"huggingface": json.dumps(told)})
    pq.write_table(content, path, row_group_size=group)
    return path


class Pairs(torch.utils.data.Dataset):
    """A user's own set."""

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return torch.from_numpy(PICTURES[index].transpose(2, 0, 1).copy()).float() / 255, LABELS[index]


def sources(tmp_path) -> dict[str, Any]:
    """Texts and objects that all give ``PICTURES`` and ``LABELS``, in their order."""
    folder = tmp_path / "folder"
    for i in sorted(range(COUNT), key=lambda i: LABELS[i]):
        (folder / str(LABELS[i])).mkdir(parents=True, exist_ok=True)
        (folder / str(LABELS[i]) / f"{i:03d}.png").write_bytes(png(PICTURES[i]))
    (tmp_path / "tars").mkdir()
    tar(tmp_path / "tars" / "a-0.tar", range(5))
    tar(tmp_path / "tars" / "a-1.tar", range(5, COUNT))
    (tmp_path / "tables").mkdir()
    table(tmp_path / "tables" / "0.parquet", range(7), names=["ant", "bee", "cat"])
    table(tmp_path / "tables" / "1.parquet", range(7, COUNT))
    np.savez(tmp_path / "plain.npz", x=PICTURES, y=LABELS)
    np.savez(tmp_path / "floats.npz", x=(PICTURES / np.float32(255)).astype(np.float32), y=LABELS)
    packed = [png(p) for p in PICTURES]
    offset = np.cumsum([0, *map(len, packed)])
    np.savez(tmp_path / "packed.npz", jpeg=np.frombuffer(b"".join(packed), np.uint8), offset=offset, y=LABELS)
    loader = torch.utils.data.DataLoader
    return {
        "folder": f"folder:path={folder}",
        "tars": f"wds:path={tmp_path / 'tars'}",
        "a pattern": f"wds:path={tmp_path}/tars/a-*.tar",
        "a range": f"wds:path={tmp_path}/tars/a-{{0..1}}.tar",
        "tables": f"parquet:path={tmp_path / 'tables'}",
        "mapped": str(tmp_path / "plain.npz"),
        "mapped floats": str(tmp_path / "floats.npz"),
        "packed": str(tmp_path / "packed.npz"),
        "dataset": Pairs(),
        "loader": loader(Pairs(), batch_size=5),
        "own batches": loader(Pairs(), batch_size=5, collate_fn=lambda items: tuple(map(torch.stack, ([i[0] for i in items], [torch.tensor(i[1]) for i in items])))),
    }  # fmt: skip


@pytest.fixture
def nothing_is_held(monkeypatch):
    monkeypatch.setattr(images_module, "HELD", 0)
    monkeypatch.setattr("sparring.data.archives.HELD", 0)


def test_every_source_gives_the_pixels_that_were_put_in(tmp_path):
    for name, given in sources(tmp_path).items():
        images = load_data(given)
        order = sorted(range(COUNT), key=lambda i: LABELS[i]) if name == "folder" else range(COUNT)
        want = torch.from_numpy(PICTURES[list(order)].transpose(0, 3, 1, 2).copy()).float() / 255
        assert torch.equal(images.x, want), name
        assert images.y.tolist() == [LABELS[i] for i in order], name
        assert images.lattice
        assert isinstance(images.stored, Held)


def test_what_is_read_again_is_what_is_held(tmp_path, monkeypatch):
    given = sources(tmp_path)
    held = {name: load_data(source) for name, source in given.items()}
    monkeypatch.setattr(images_module, "HELD", 0)
    monkeypatch.setattr("sparring.data.archives.HELD", 0)
    for name, source in given.items():
        images, whole = load_data(source), held[name]
        assert isinstance(images.stored, Held if name == "own batches" else Streamed), name
        assert (images.hash, images.ids, images.classes) == (whole.hash, whole.ids, whole.classes), name
        for rows in (slice(0, 3), slice(3, COUNT), [7, 2], torch.tensor([1, 0]), torch.arange(COUNT) % 2 == 0):
            assert torch.equal(images.pixels(rows), whole.pixels(rows)), name
        part, drawn = images.at([5, 1]), load_data(source, limit=4, seed=1)
        assert torch.equal(part.x, whole.x[[5, 1]])
        assert torch.equal(drawn.x, whole.draw(4, 1).x)
        assert drawn.hash == whole.draw(4, 1).hash


def test_classes_names_and_ids_are_those_of_the_files(tmp_path):
    given = sources(tmp_path)
    assert load_data(given["tables"]).classes == ("ant", "bee", "cat")
    assert load_data(given["tars"]).ids[4:6] == ("a-0.tar/sample004", "a-1.tar/sample005")
    assert load_data(f"wds:path={tmp_path}/tars/a-0.tar").ids[:2] == ("sample000", "sample001")
    assert len(load_data(f"{given['folder']},classes=1")) == LABELS.count(1)


def test_only_what_is_meant_is_read(tmp_path, monkeypatch):
    given = sources(tmp_path)["folder"]
    read: list[str] = []
    monkeypatch.setattr(
        "sparring.data.pictures.read_picture",
        lambda file, name, *rest: read.append(name) or np.zeros((4, 4, 3), np.uint8) + 99,
    )
    load_data(given, limit=3)
    assert len(set(read)) == 3


def test_a_file_that_changed_since_is_refused(tmp_path, nothing_is_held):
    given = sources(tmp_path)["folder"]
    images = load_data(given)
    (tmp_path / "folder" / "0" / "003.png").write_bytes(png(PICTURES[1]))
    with pytest.raises(SparringError, match=r"0/003\.png is not what it was when the images were first read"):
        images.pixels(slice(0, COUNT))


def test_an_evaluation_of_a_streamed_set_is_that_of_the_held_one(tmp_path, monkeypatch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)).eval()
    given = sources(tmp_path)
    arguments = {"threats": ["adaptive"], "attacks": ["pgd:eps=2/255,steps=3", "ddn:steps=3"], "block": 5}
    arguments |= {
        "expect_clean": float((net(load_data(given["tars"]).x).argmax(1) == torch.tensor(LABELS)).float().mean())
    }
    sparring.evaluate(net, given["tars"], out=tmp_path / "held", **arguments)
    monkeypatch.setattr(images_module, "HELD", 0)
    monkeypatch.setattr(stream, "CACHED", 0)
    sparring.evaluate(net, given["tars"], out=tmp_path / "streamed", **arguments)
    assert digest(tmp_path / "held") == digest(tmp_path / "streamed")


def test_blocks_of_photos_are_small(monkeypatch):
    from sparring.evaluation.plan import partition

    images = ImageSet.of(PICTURES.transpose(0, 3, 1, 2), LABELS)
    monkeypatch.setattr(partition, "VALUES", 3 * 192)
    assert partition.Partition.of(images, 256).ends == (3, 6, 9, 12)


BAD = [
    ("wds:path=DIR/none-*.tar", "names no .tar file"),
    ("wds:path=DIR/lone.tar", "sample sample000 has no sample000.cls"),
    ("wds:path=DIR/lone.tar,label=txt", "sample000.txt holds 'ant', no class number"),
    ("wds:path=DIR/torn.tar", "no tar file that can be read whole"),
    ("wds:path=DIR/cut.tar", "does not end as a tar does"),
    ("wds:path=DIR/twice.tar", "sample sample000 has two files of one ending"),
    ("wds:path=DIR/tars/a-{0..3}.tar", "2 of 4 files are not there"),
    ("parquet:path=DIR/tables,image=photo", "has no column photo, but image, label"),
    ("parquet:path=DIR/plain.npz", "no Parquet file that can be read"),
    ("parquet:path=nowhere://x/y", "cannot be listed"),
    ("folder:path=DIR/folder,size=auto", "no model says how"),
    ("folder:path=DIR/folder,size=auto,crop=0.5", "size=auto says crop= itself"),
    ("hf:name=DIR/nothing", "hf:"),
]


@pytest.mark.parametrize(("text", "says"), BAD)
def test_what_cannot_be_listed_or_read_is_one_line(text, says, tmp_path):
    sources(tmp_path)
    with tarfile.open(tmp_path / "lone.tar", "w") as archive:
        for ending, content in (("png", png(PICTURES[0])), ("txt", b"ant")):
            about = tarfile.TarInfo(f"sample000.{ending}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    with tarfile.open(tmp_path / "twice.tar", "w") as archive:
        for ending, content in (("png", png(PICTURES[0])), ("cls", b"1"), ("png", png(PICTURES[1])), ("cls", b"2")):
            about = tarfile.TarInfo(f"sample000.{ending}")
            about.size = len(content)
            archive.addfile(about, io.BytesIO(content))
    with tarfile.open(tmp_path / "tars" / "a-0.tar") as archive:
        end = next(member.offset for member in archive if member.name == "sample002.png")
    (tmp_path / "cut.tar").write_bytes((tmp_path / "tars" / "a-0.tar").read_bytes()[:end])
    (tmp_path / "torn.tar").write_bytes((tmp_path / "tars" / "a-0.tar").read_bytes()[:900])
    with pytest.raises(SparringError) as caught:
        load_data(text.replace("DIR", str(tmp_path)))
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


def test_items_that_are_no_pictures_are_refused():
    class Texts(torch.utils.data.Dataset):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return "a cat", 1

    class Normalized(Pairs):
        def __getitem__(self, index):
            return torch.randn(3, 8, 8, generator=torch.Generator().manual_seed(index)), 1

    class Moody(Pairs):
        def __getitem__(self, index):
            return torch.rand(3, 8, 8), 1

    with pytest.raises(SparringError, match="is another each time that it is read"):
        load_data(Moody())
    with pytest.raises(SparringError, match="makes no batches"):
        load_data(torch.utils.data.DataLoader(Pairs(), batch_size=None))
    assert len(load_data(torch.utils.data.DataLoader(Pairs(), batch_size=5, drop_last=True))) == 10
    assert load_data(torch.utils.data.DataLoader(Pairs(), batch_size=2, sampler=[4, 2, 7])).y.tolist() == [
        LABELS[i] for i in (4, 2, 7)
    ]
    with pytest.raises(SparringError, match="is str, no picture"):
        load_data(Texts())
    with pytest.raises(SparringError, match="undo mean/std"):
        load_data(Normalized())


def test_size_auto_does_what_the_model_says(tmp_path):
    """Equal to torchvision's own preset to the bit, and printed with the set."""
    transforms = pytest.importorskip("torchvision.transforms", reason="extra models is not installed")
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for i, (name, size) in enumerate((("a", (50, 40)), ("b", (36, 64)))):
        picture = np.random.default_rng(i).integers(0, 256, (*size, 3), dtype=np.uint8)
        Image.fromarray(picture).save(tmp_path / name / "0.png")
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(2), torch.nn.Flatten(), torch.nn.Linear(12, 2)).eval()
    model = Classifier(network, name="toy", size=24, fitting=Fitting(24, 24 / 29, "bilinear"))
    with pytest.raises(SparringError, match="images differ in size"):
        load_data(str(tmp_path))
    result = sparring.evaluate(
        model, f"{tmp_path},size=auto", threats=["adaptive"], attacks=["fgsm:eps=1/255"], dry_run=True
    )
    assert result.plan is not None
    images = load_data(f"{tmp_path},size=auto", fitting=model.fitting)
    assert "shorter side to 29 (bilinear), center 24x24" in images.name
    preset = transforms.Compose([transforms.Resize(29), transforms.CenterCrop(24), transforms.PILToTensor()])
    with Image.open(tmp_path / "a" / "0.png") as a, Image.open(tmp_path / "b" / "0.png") as b:
        assert torch.equal(images.x, torch.stack([preset(a), preset(b)]).float() / 255)


def test_the_models_of_timm_and_torchvision_say_how_their_images_are_made():
    pytest.importorskip("torchvision", reason="extra models is not installed")
    model = sparring.load_model("torchvision:resnet50,weights=random")
    assert model.fitting is not None
    assert (model.fitting.side, model.fitting.size, model.fitting.filter) == (232, 224, "bilinear")
    model = sparring.load_model("timm:resnet18,weights=random")
    assert model.fitting is not None
    assert model.fitting.size == 224


def test_hugging_face_sets_are_read_by_their_columns(tmp_path):
    datasets = pytest.importorskip("datasets", reason="extra hub is not installed")
    features = datasets.Features({"photo": datasets.Image(), "kind": datasets.ClassLabel(names=["ant", "bee", "cat"])})
    rows = {"photo": [Image.fromarray(p) for p in PICTURES], "kind": LABELS}
    (tmp_path / "set").mkdir()
    datasets.Dataset.from_dict(rows, features=features).to_parquet(
        str(tmp_path / "set" / "test-00000-of-00001.parquet")
    )
    images = load_data(f"hf:name={tmp_path}/set,image=photo,label=kind")
    assert images.classes == ("ant", "bee", "cat")
    assert torch.equal(images.x, torch.from_numpy(PICTURES.transpose(0, 3, 1, 2).copy()).float() / 255)
    with pytest.raises(SparringError, match="has no column image, but photo, kind"):
        load_data(f"hf:name={tmp_path}/set")
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(str(tmp_path / "saved"))
    assert load_data(f"hf:name={tmp_path}/saved,image=photo,label=kind").hash == images.hash
    plain = tmp_path / "plain"
    plain.mkdir()
    table(plain / "test-0.parquet", range(COUNT))  # bytes that nobody says are pictures
    assert torch.equal(load_data(f"hf:name={plain}").x, images.x)


@pytest.mark.parametrize("most", [stream.HELD, 0])
def test_round_off_beyond_the_range_is_cut_at_every_reading(most, monkeypatch):
    """It is no other image, and what an attack is given lies in [0,1]."""

    class Beyond(Pairs):
        def __getitem__(self, index):
            return super().__getitem__(index)[0] * 0.7 + 0.3000004, LABELS[index]

    monkeypatch.setattr(images_module, "HELD", most)
    images = load_data(Beyond())
    assert not images.lattice
    assert images.x.max() == 1
    assert images.hash == ImageSet.of(images.x, images.y).hash


def test_progress_of_a_long_reading_is_told(monkeypatch):
    monkeypatch.setattr(images_module, "OFTEN", 5)
    said: list[str] = []
    load_data(Pairs(), say=said.append)
    assert said == ["reading image 5 of 12", "reading image 10 of 12"]


def test_the_first_images_of_a_set_sorted_by_class_speak_for_few_classes(tmp_path):
    folder = sources(tmp_path)["folder"]
    with pytest.warns(UserWarning, match="the first 4 are of 1 of 3 classes; write seed=0"):
        load_data(folder, limit=4)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_data(folder, limit=4, seed=0)
        load_data(folder)
        load_data((PICTURES.transpose(0, 3, 1, 2), LABELS), limit=2)


@pytest.fixture
def bucket(tmp_path):
    """The sources of here, in a store as well."""
    import fsspec

    given, store = sources(tmp_path), fsspec.filesystem("memory")
    store.put(str(tmp_path), "/bucket", recursive=True)
    yield given, "memory://bucket"
    store.rm("/bucket", recursive=True)


def test_images_may_lie_in_a_bucket(bucket, tmp_path):
    given, root = bucket
    for here, there in (
        (given["folder"], f"{root}/folder"),
        (given["folder"], f"folder:path={root}/folder"),
        (given["mapped"], f"{root}/plain.npz"),
        (given["packed"], f"{root}/packed.npz"),
        (given["tars"], f"wds:path={root}/tars"),
        (given["tables"], f"parquet:path={root}/tables"),
    ):
        a, b = load_data(here), load_data(there)
        assert torch.equal(a.x, b.x), there
        assert (a.ids, a.hash, a.classes) == (b.ids, b.hash, b.classes), there
    assert len(load_data(f"{root}/folder,limit=3,seed=0,classes=0+2")) == 3
    for text, says in (
        (f"{root}/nothing", "holds no files"),
        (f"{root}/tars", "has no class sub-folders"),
        (f"{root}/none.npz", "names no .npz file"),
        (root, "lie beside the class folders|has no class|splits|image"),
    ):
        with pytest.raises(SparringError, match=says):
            load_data(text)


def test_who_joins_a_run_reads_no_image_to_know_the_set(tmp_path, nothing_is_held, monkeypatch):
    given = sources(tmp_path)["tars"]
    images, folder = load_data(given, limit=8, seed=1), tmp_path / "run"
    inventory = Inventory.of(images)
    assert inventory
    write_inventory(folder, inventory, "asked")
    reads: list[int] = []
    assert isinstance(images.stored, Streamed)
    kind = type(images.stored.source)
    read = kind.read
    monkeypatch.setattr(kind, "read", lambda self, number: reads.append(number) or read(self, number))
    assert read_inventory(folder, "something else") is None
    again = load_data(given, limit=8, seed=1, known=read_inventory(folder, "asked"))
    assert (again.hash, again.ids, again.classes) == (images.hash, images.ids, images.classes)
    assert not reads
    assert torch.equal(again.x, images.x)


def test_a_inventory_of_another_listing_or_a_damaged_one_is_not_believed(tmp_path, nothing_is_held):
    given, folder = sources(tmp_path)["tars"], tmp_path / "run"
    inventory = Inventory.of(load_data(given))
    assert inventory
    write_inventory(folder, inventory, "asked")
    tar(tmp_path / "tars" / "a-2.tar", range(2))
    assert len(load_data(given, known=read_inventory(folder, "asked"))) == COUNT + 2
    content = (folder / "images.parquet").read_bytes()
    (folder / "images.parquet").write_bytes(content[:-9] + b"x" + content[-8:])
    assert read_inventory(folder, "asked") is None


def test_a_shard_that_joins_reads_only_the_blocks_that_it_attacks(tmp_path, nothing_is_held, monkeypatch):
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(192, 3)).eval()
    given, out = sources(tmp_path)["folder"], tmp_path / "run"
    arguments = {"threats": ["adaptive"], "attacks": ["pgd:eps=2/255,steps=3"], "block": 4, "expect_clean": 0.3}
    sparring.evaluate(net, given, out=tmp_path / "alone", **arguments)
    sparring.evaluate(net, given, out=out, shard="0/2", **arguments)
    monkeypatch.setattr(images_module.Unread, "draw", None)  # who reads all of it fails
    cells = [cell for cell in (out / "rows").iterdir() if len(list(cell.iterdir())) == 3]
    for cell in cells:
        sorted(cell.iterdir())[0].unlink()
    sparring.evaluate(net, given, out=out, shard="1/2", **arguments)
    assert digest(out) == digest(tmp_path / "alone")
    file = next((tmp_path / "folder").rglob("*.png"))
    file.write_bytes(png(255 - PICTURES[0]))
    with pytest.raises(SparringError, match="is not what it was"):
        sparring.evaluate(net, given, out=out, shard="1/2", **arguments)

"""The contract of data sources."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from sparring.core.errors import SparringError
from sparring.core.registry import DATA
from sparring.core.spec import parse
from sparring.data.images import ImageSet
from sparring.data.sources import load_data


class DataContract:
    """What every source of images does, by its spec text. Subclass it and parametrize ``spec``."""

    kind: ClassVar[str] = "data"

    def test_it_is_declared(self, spec: str) -> None:
        assert DATA[parse(spec).name].__doc__
        assert load_data(spec).name

    def test_pixels_and_labels_are_what_they_should_be(self, spec: str) -> None:
        """float32 pixels (N,C,H,W) in [0,1] with one or three channels, and a label of at least 0 for every image."""
        images = load_data(spec)
        assert images.x.dtype == torch.float32
        assert images.x.dim() == 4
        assert images.x.shape[1] in (1, 3)
        assert images.x.min() >= 0
        assert images.x.max() <= 1
        assert images.x.max() > 1 / 255, "pixels of 8 bits were divided twice"
        assert images.y.dtype == torch.int64
        assert images.y.shape == (len(images.x),)
        assert images.y.min() >= 0
        assert not images.classes or int(images.y.max()) < len(images.classes)

    def test_ids_are_unique_and_the_hash_is_of_what_is_there(self, spec: str) -> None:
        images = load_data(spec)
        assert len(images.ids) == len(images) == len(set(images.ids))
        again = ImageSet.of(images.x, images.y, ids=images.ids, name=images.name)
        assert (images.hash, images.lattice) == (again.hash, again.lattice)

    def test_loaded_again_it_is_the_same(self, spec: str) -> None:
        state = torch.get_rng_state()
        first = load_data(spec)
        assert torch.equal(torch.get_rng_state(), state)
        assert load_data(spec).hash == first.hash

    def test_a_limit_takes_the_first_and_keeps_their_ids(self, spec: str) -> None:
        """An image is the same in a part of the set: its noise and its stored points follow its id."""
        images, part = load_data(spec), load_data(spec, limit=2)
        assert part.ids == images.ids[:2]
        assert torch.equal(part.x, images.x[:2])
        assert torch.equal(part.y, images.y[:2])
        drawn = load_data(spec, limit=2, seed=1)
        where = [images.ids.index(i) for i in drawn.ids]
        assert torch.equal(drawn.x, images.x[where])
        with pytest.raises(SparringError, match="at least one"):
            load_data(spec, limit=0)

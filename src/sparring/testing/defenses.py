"""The contract of defenses."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sparring.core.registry import DEFENSES
from sparring.core.spec import parse, split
from sparring.core.victim import Access, Victim
from sparring.defenses.base import Defended, defense
from sparring.testing.networks import conv_net, keyed_noise

Shape = tuple[int, int, int]


def installed(spec: str, shape: Shape = (3, 8, 8)) -> Defended:
    """A small network of images of that shape behind the defense."""
    return defense(spec).install(Defended(conv_net(shape[0]), id="small"))


def some(shape: Shape = (3, 8, 8), count: int = 4) -> Tensor:
    """Random images of that shape."""
    return torch.rand(count, *shape, generator=torch.Generator().manual_seed(1))


class DefenseContract:
    """What every defense does, by its spec text. Subclass it and parametrize ``spec``.

    ``shapes``: images (C,H,W) that it takes; leave those out that the defense is not config for.
    """

    kind: ClassVar[str] = "defenses"
    shapes: ClassVar[tuple[Shape, ...]] = ((3, 8, 8), (1, 9, 7), (3, 33, 32))

    def test_it_is_declared(self, spec: str) -> None:
        """Its text round trips, its docstring is there, and every stage says why its backward is right."""
        config = defense(spec)
        assert defense(str(config)) == config
        assert all(DEFENSES[parse(part).name].__doc__ for part in split(spec, "+"))
        for stage in installed(spec).stages:
            assert stage.name
            assert stage.surrogate.why
            assert stage.surrogate.backward

    def test_stages_keep_the_shape_and_each_image_to_itself(self, spec: str) -> None:
        for shape in self.shapes:
            x = some(shape)
            for stage in installed(spec, shape).stages:
                out = stage(x, keyed_noise(4))
                assert out.shape == x.shape
                assert out.dtype == torch.float32
                alone = [stage(x[i : i + 1], keyed_noise(4).at(torch.tensor([i]))) for i in range(4)]
                assert torch.allclose(out, torch.cat(alone), atol=1e-5)

    def test_the_defended_system_answers_image_by_image(self, spec: str) -> None:
        """The same with the network and the readout: an image's scores do not depend on its batch mates."""
        for shape in self.shapes:
            x, system = some(shape), installed(spec, shape).system()
            together = system.scores(x, keyed_noise(4))
            alone = [system.scores(x[i : i + 1], keyed_noise(4).at(torch.tensor([i]))) for i in range(4)]
            assert torch.allclose(together, torch.cat(alone), atol=1e-4)

    def test_declared_randomness_is_the_behavior(self, spec: str) -> None:
        """The same keys give the same draw; others give another one if and only if the stage is declared random."""
        x = some()
        state = torch.get_rng_state()
        for stage in installed(spec).stages:
            first = stage(x, keyed_noise(4))
            assert torch.equal(torch.get_rng_state(), state), "the global generator is left alone"
            with torch.random.fork_rng():
                torch.manual_seed(1)
                assert torch.equal(first, stage(x, keyed_noise(4)))
            other = stage(x, keyed_noise(4, seed=1))
            assert torch.equal(first, other) != stage.surrogate.random
            if stage.surrogate.random:
                follows = replace(keyed_noise(4), draw=torch.full((4,), 1))
                assert not torch.equal(first, stage(x, follows)), "every draw is its own"

    def test_every_declared_backward_gives_a_gradient(self, spec: str) -> None:
        """No surrogate is dead: each variant of each stage passes a finite gradient to the input that is not zero."""
        x, y = some(), torch.zeros(4, dtype=torch.int64)
        for variant in installed(spec).variants():
            victim = Victim((variant.system,), Access.GRADIENT)
            grad = victim.gradient(x, lambda z, rows: -z.gather(1, y[rows, None])[:, 0], keyed_noise(4)).grad
            assert torch.isfinite(grad).all(), variant.name
            assert (grad.abs().flatten(1).sum(1) > 0).all(), variant.name

    def test_installing_leaves_what_is_there(self, spec: str) -> None:
        """A defense adds itself to a copy: the system that is given stays, and dropping every stage gives it back."""
        base = Defended(conv_net(), id="small")
        before: dict[str, Any] = {k: v.clone() for k, v in base.network.state_dict().items()}
        system = defense(spec).install(base)
        assert base.stages == ()
        assert all(torch.equal(v, before[k]) for k, v in base.network.state_dict().items())
        assert system.drop().stages == ()
        if system.network is base.network:
            assert (system.id, system.name) == (base.id, str(defense(spec)))

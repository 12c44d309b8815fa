"""A claim judged from numbers: reproduced, contradicted, undecided, not at this scale, lost. Knows no attack and no model."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Literal

from sparring.core.columns import Json
from sparring.evaluation.results.stats import CONFIDENCE, wilson
from sparring.recipes.bounds import SAME, Bounds, difference, holm
from sparring.recipes.expand import Seat
from sparring.recipes.numbers import Number, Replay
from sparring.recipes.recipe import UNITS, PaperClaim, Recipe

Word = Literal["reproduced", "contradicted", "undecided", "not at this scale", "lost", "missing"]
WORDS: tuple[Word, ...] = ("reproduced", "contradicted", "undecided", "not at this scale", "lost", "missing")
Cells = Mapping[tuple[str, ...], Sequence[Number]]


@dataclass(frozen=True)
class Compared:
    """One comparison: an estimate that is to be above (or, with ``equal``, at least) ``threshold``."""

    text: str
    bounds: Bounds
    threshold: float
    equal: bool = False
    level: float = CONFIDENCE  # at which the least likely of its family must be proven
    proven: bool = False
    refuted: bool = False

    @property
    def p_proven(self) -> float:
        """One-sided p against the claim."""
        if self.equal and self.bounds.low(CONFIDENCE) == self.threshold == self.bounds.value:
            return 0.0
        return self.bounds.p_above(self.threshold)

    @property
    def needed(self) -> float:
        """Images (or seeds) at which an estimate like this would be settled; inf where nobody knows."""
        return self.bounds.needed(self.threshold, self.level)

    @property
    def stands_on(self) -> bool:
        """Is the estimate the threshold?"""
        return abs(self.bounds.value - self.threshold) < SAME

    @property
    def is_contrary(self) -> bool:
        """Does a bound, not adjusted for others, say the other way?"""
        return self.bounds.high(CONFIDENCE) < self.threshold

    @property
    def line(self) -> str:
        """In words."""
        low, high = self.bounds.low(CONFIDENCE), self.bounds.high(CONFIDENCE)
        return f"{self.text} = {self.bounds.value:.4g} [{low:.4g}, {high:.4g}], {self.bounds.how}"


@dataclass(frozen=True)
class Comparisons:
    """What a claim comes down to. ``all_of``: each must be proven. ``none_of``: none may be contrary, and one refuted contradicts. ``against``: where each
    of these is proven, the claim is contradicted (else one refuted of ``all_of`` does that). ``missing``: how many cannot be made for lack of a cell.
    """

    all_of: tuple[Compared, ...]
    none_of: tuple[Compared, ...] = ()
    against: tuple[Compared, ...] = ()
    missing: int = 0


@dataclass(frozen=True)
class ClaimVerdict:
    """A claim's verdict in a seat: the word, why, and each comparison in words. ``counts``: is it the seat that the claim is about?"""

    claim: str
    text: str
    where: str
    ours: bool
    seat: Seat
    counts: bool
    word: Word
    why: str
    comparisons: tuple[str, ...] = field(default=())

    def json(self) -> Json:
        """Plain values."""
        return asdict(self)


def judge(recipe: Recipe, numbers: Sequence[Number]) -> list[ClaimVerdict]:
    """The verdicts on all claims of a recipe, from its numbers; where there are numbers of the adaptive seat the same predicates on these."""
    seats: list[Seat] = ["paper"]
    if any(x.seat != "paper" for x in numbers) or any(c.seat for c in recipe.claim):
        seats.append("adaptive")
    return [verdict for seat in seats for verdict in _judged(recipe, numbers, seat)]


def agreement(recipe: Recipe, replay: Replay) -> str:
    """How many of our numbers, in the paper's own seat, are near the published ones, in words; asked at the paper's scale alone. Near: within the margin, and
    where both have an interval (theirs: Wilson's, of their n) these overlap. The margin is in the table's unit: numbers in another are left out.
    """
    if replay.scale != "paper":
        raise ValueError("numbers are compared at the paper's scale only")
    published = {} if recipe.all_lost else recipe.numbers
    paper = [x for x in replay.numbers if x.seat == "paper" and isinstance(published.get(x.labels), float)]
    ours = [x for x in paper if x.scale == UNITS[recipe.published.unit]]
    far = [x for x in ours if not _near(x, float(published[x.labels]), recipe)]
    names = f"; not {', '.join('/'.join(x.labels) for x in far)}" if far else ""
    return f"{len(ours) - len(far)} of {len(ours)} numbers are within {recipe.published.margin:g} of the published ones{names}."


def _near(number: Number, published: float, recipe: Recipe) -> bool:
    if abs(number.value - published) > recipe.published.margin:
        return False
    n = recipe.published.n
    if n is None or number.interval is None or not 0 <= published <= number.scale:
        return True
    low, high, _ = wilson(round(published / number.scale * n), n)
    return number.interval[0] <= number.scale * high and number.scale * low <= number.interval[1]


def _judged(recipe: Recipe, numbers: Sequence[Number], seat: Seat) -> list[ClaimVerdict]:
    cells: dict[tuple[str, ...], list[Number]] = {}
    for number in numbers:
        if number.seat == seat and not math.isnan(number.value):
            cells.setdefault(number.labels, []).append(number)
    about_seat = [c for c in recipe.claim if c.seat in ("", seat)]
    if not cells and seat != "paper":
        about_seat = [c for c in about_seat if c.seat]
    refusals = {claim.id: _refused(recipe, claim, cells) for claim in about_seat}
    asked = {c.id: _Asked(recipe, c, cells).comparisons() for c in about_seat if refusals[c.id] is None}
    tested = _tested({c.id: c.family or c.id for c in about_seat}, asked)
    verdicts: list[ClaimVerdict] = []
    for claim in about_seat:
        word, why = refusals[claim.id] or _word(tested[claim.id])
        lines = tuple(c.line for c in _all(tested[claim.id])) if claim.id in tested else ()
        about = claim.id, claim.text, claim.where, claim.ours, seat, seat == (claim.seat or "paper")
        verdicts.append(ClaimVerdict(*about, word, why, lines))
    return verdicts


def _refused(recipe: Recipe, claim: PaperClaim, cells: Cells) -> tuple[Word, str] | None:
    """Why a claim is not judged at all."""
    if claim.value == "lost":
        return "lost", "the claimed number is not in our copy of the paper"
    if claim.missing or recipe.missing:
        return "missing", claim.missing or recipe.missing
    if claim.needs:
        chosen = _Asked(recipe, claim, cells).chosen(claim.needs.cells)
        value = sum(x.value for x in chosen) / len(chosen) if chosen else math.nan
        if not value >= claim.needs.at_least:
            what = ", ".join(f"{k} {v}" for k, v in claim.needs.cells.items())
            return "not at this scale", f"it needs {what} to be at least {claim.needs.at_least:g}, here {value:.4g}"
    return None


def _all(comparisons: Comparisons) -> tuple[Compared, ...]:
    return (*comparisons.all_of, *comparisons.none_of, *comparisons.against)


def _tested(families: Mapping[str, str], asked: Mapping[str, Comparisons]) -> dict[str, Comparisons]:
    """Each comparison with what Holm's test over its family says, in both directions."""
    tested: dict[str, Comparisons] = {}
    for family in dict.fromkeys(families[name] for name in asked):
        members = {name: c for name, c in asked.items() if families[name] == family}
        every = [c for comparisons in members.values() for c in _all(comparisons)]
        proven = holm([c.p_proven for c in every])
        refuted = holm([c.bounds.p_below(c.threshold) for c in every])
        level = 1 - (1 - CONFIDENCE) / max(1, len(every))
        outcomes = iter(
            [replace(c, level=level, proven=p, refuted=r) for c, p, r in zip(every, proven, refuted, strict=True)]
        )
        for name, comparisons in members.items():

            def of(part: Sequence[Compared], outcomes: Iterator[Compared] = outcomes) -> tuple[Compared, ...]:
                return tuple(itertools.islice(outcomes, len(part)))

            tested[name] = Comparisons(
                of(comparisons.all_of), of(comparisons.none_of), of(comparisons.against), comparisons.missing
            )
    return tested


def _word(comparisons: Comparisons) -> tuple[Word, str]:
    all_of, none_of, against = comparisons.all_of, comparisons.none_of, comparisons.against
    refuted = [c for c in (*(() if against else all_of), *none_of) if c.refuted]
    if refuted or (against and all(c.proven for c in against)):
        return "contradicted", (refuted or list(against))[0].line
    holds = f"{sum(c.proven for c in all_of)} of {len(all_of) + comparisons.missing} comparisons hold"
    if comparisons.missing or not all_of:
        return "not at this scale", f"{comparisons.missing} comparisons have no cell here; {holds}"
    contrary = min((c for c in none_of if c.is_contrary), key=lambda c: c.bounds.value, default=None)
    other_way = f"; the other way: {contrary.line}" if contrary else ""
    open_ones = [c for c in all_of if not c.proven]
    if open_ones:
        return "undecided", f"{holds}; {_outlook(open_ones)}; first open: {open_ones[0].line}{other_way}"
    return ("undecided" if contrary else "reproduced"), holds + other_way


def _outlook(open_ones: Sequence[Compared]) -> str:
    """What would settle them, in words."""
    needed = max(c.needed for c in open_ones)
    unit = "seeds" if "seeds" in open_ones[0].bounds.how else "images"
    if any(c.stands_on for c in open_ones):
        return f"it stands on the threshold: no number of {unit} can be named"
    if math.isinf(needed):
        return f"no number of {unit} can be named"
    return f"about {math.ceil(needed)} {unit} would settle it"


@dataclass(frozen=True)
class _Asked:
    """A claim before its cells."""

    recipe: Recipe
    claim: PaperClaim
    cells: Cells

    @property
    def axes(self) -> list[str]:
        return self.recipe.published.axes

    def labels(self, axis: str) -> list[str]:
        """The labels of an axis that the claim is about; also those that a scale dropped."""
        return self.claim.among.get(axis) or list(self.recipe.axes[axis])

    def comparisons(self) -> Comparisons:
        """What the claim comes down to."""
        if self.claim.test in ("order", "monotone", "argmax"):
            return self._along()
        pairs, missing = self._pairs()
        margin, value = self.claim.margin, self.claim.value
        limit = value if isinstance(value, int | float) else 0.0
        compared: list[Compared] = []
        for text, a, b in pairs:
            bounds = difference(a, b, self.claim.paired, self.claim.factor)
            if self.claim.test == "at_least":
                compared.append(Compared(text, bounds, limit, equal=True))
            elif self.claim.test == "at_most":
                compared.append(Compared(f"-({text})", bounds.negative, -limit, equal=True))
            else:
                compared.append(Compared(text, bounds, limit - margin if self.claim.test == "within" else margin))
                if self.claim.test == "within":
                    compared.append(Compared(f"-({text})", bounds.negative, -limit - margin))
        return Comparisons(tuple(compared), missing=missing)

    def _pairs(self) -> tuple[list[tuple[str, list[Number], list[Number]]], int]:
        """Each pair of (mean) cells that is compared, and how many cannot be. Of a test of one side the second is empty."""
        one_sided = self.claim.test != "above" and self.claim.value is not None
        a, b, over = self.claim.a, {} if one_sided else self.claim.b, self.claim.over
        free = [x for x in self.axes if x not in over and not (x in a and (one_sided or x in b))]
        pairs: list[tuple[str, list[Number], list[Number]]] = []
        missing, times = 0, "" if self.claim.factor == 1 else f"{self.claim.factor:g} x "
        for labels in itertools.product(*(self.labels(axis) for axis in free)):
            loop = dict(zip(free, labels, strict=True))
            first, second = {**loop, **a}, {**loop, **b}
            if (not one_sided and first == second) or self._alike(first) or (not one_sided and self._alike(second)):
                continue
            left, right = self.chosen(first), [] if one_sided else self.chosen(second)
            if not left or (not one_sided and not right):
                missing += 1
                continue
            text = self._name(first) if one_sided else f"{self._name(first)} - {times}{self._name(second)}"
            pairs.append((text, left, right))
        return pairs, missing

    def _along(self) -> Comparisons:
        """Comparisons of labels along an axis, the other axes averaged ``over`` or chosen by ``a``, else gone through."""
        claim, axis = self.claim, self.claim.along
        free = [x for x in self.axes if x not in (axis, *claim.over) and x not in claim.a]
        all_of: list[Compared] = []
        none_of: list[Compared] = []
        against: list[Compared] = []
        missing = 0
        for labels in itertools.product(*(self.labels(x) for x in free)):
            chosen = {**dict(zip(free, labels, strict=True)), **claim.a}
            there = {label: self.chosen({**chosen, axis: label}) for label in self._line()}
            missing += sum(not numbers for numbers in there.values())
            there = {label: numbers for label, numbers in there.items() if numbers}
            names = list(there)
            steps = list(itertools.pairwise(names))
            if claim.test == "order":
                all_of += [self._above(chosen, there, x, y) for x, y in steps]
            elif claim.test == "monotone" and len(names) > 1:
                ordered = names if claim.direction == "down" else names[::-1]
                all_of.append(self._above(chosen, there, ordered[0], ordered[-1]))
                pairs = [pair for pair in itertools.combinations(ordered, 2) if pair != (ordered[0], ordered[-1])]
                none_of += [replace(self._above(chosen, there, x, y), threshold=0.0) for x, y in pairs]
            elif claim.test == "argmax":
                inside = sorted((x for x in names if x in claim.labels), key=lambda x: -_value(there[x]))
                outside = sorted((x for x in names if x not in claim.labels), key=lambda x: -_value(there[x]))
                if inside and outside:
                    all_of += [self._above(chosen, there, inside[0], x) for x in outside]
                    against += [self._above(chosen, there, outside[0], x) for x in inside]
        return Comparisons(tuple(all_of), tuple(none_of), tuple(against), missing)

    def _line(self) -> list[str]:
        """The labels along the axis, in the claim's order where it says one."""
        return self.claim.labels if self.claim.test == "order" else self.labels(self.claim.along)

    def _above(self, chosen: Mapping[str, str], there: Mapping[str, list[Number]], x: str, y: str) -> Compared:
        where = self._name(chosen)
        text = f"{x} - {y}{where and f' at {where}'}"
        return Compared(text, difference(there[x], there[y], self.claim.paired), self.claim.margin)

    def chosen(self, selection: Mapping[str, str]) -> list[Number]:
        """The numbers of the cells with these labels, of all labels on the axes that it leaves open; none where one of them is missing."""
        numbers: list[Number] = []
        open_axes = [axis for axis in self.axes if axis not in selection]
        for labels in itertools.product(*(self.labels(axis) for axis in open_axes)):
            full = {**selection, **dict(zip(open_axes, labels, strict=True))}
            if self._alike(full):
                continue
            cell = self.cells.get(tuple(full[axis] for axis in self.axes))
            if cell is None:
                return []
            numbers += cell
        return numbers

    def _alike(self, labels: Mapping[str, str]) -> bool:
        """Is it a cell that the claim leaves out?"""
        unlike = [labels[axis] for axis in self.claim.unlike if axis in labels]
        return len(unlike) > 1 and len(set(unlike)) == 1

    def _name(self, labels: Mapping[str, str]) -> str:
        mean = [f"mean over {axis}" for axis in self.claim.over]
        return "/".join([*(labels[axis] for axis in self.axes if axis in labels), *mean])


def _value(numbers: Sequence[Number]) -> float:
    return sum(x.value for x in numbers) / len(numbers)

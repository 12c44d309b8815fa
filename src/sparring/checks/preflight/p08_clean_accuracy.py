"""P8 clean accuracy."""

from __future__ import annotations

import torch

from sparring.checks.base import Answer, Context, check
from sparring.checks.controls import context
from sparring.checks.preprocessing import IMAGES, better_input
from sparring.checks.relabel import at_chance, better_labels
from sparring.checks.thresholds import thresholds
from sparring.core.victim import images_a_call
from sparring.evaluation.results.stats import clopper_pearson

(SLACK,) = thresholds("P8", "slack")
FIX = "put labels, mean/std or weights right, or declare this accuracy with --expect-clean if it is meant"


@check(
    "P8",
    "clean accuracy",
    "J",
    "FATAL",
    fires=lambda: context(expected_clean=0.5),
    silent=lambda: context(expected_clean=1.0),
)
def clean_accuracy(c: Context) -> list[Answer]:
    """Raised if: a declared clean accuracy lies outside the 99 % interval of the measured one, widened by a point. Where none was declared: the
    accuracy is not significantly above guessing, 1/K (binomial test, alpha 0.01), and significantly below min(3/K + 0.1, (1 + 1/K)/2), which a
    network that has learned its classes reaches; or other labels would fit significantly better: all shifted by one number (exact test against
    the labels given, Bonferroni over the shifts), or renumbered (chosen on one half of the images, tested on the other). WARN where there are
    too few images to tell the accuracy from guessing, or where images normalized once more, with a common normalization undone, in 0..255 or with
    colors in another order are answered far better (exact test on the first 64).

    Why: wrong weights, preprocessing or labels make a model look fragile or robust for the wrong reason.

    What to do: check mean/std, channel order, label order (folder:PATH,labels=...) and the weight file; or correct the declared value. An
    accuracy that is meant to be that low is declared: a value that was declared and fits is not compared with guessing or other labels.
    """
    size, y = images_a_call(c.x, 1), c.y if c.whole is None else c.whole.y
    pixels = c.x.__getitem__ if c.whole is None else c.whole.pixels
    predicted, classes = (
        torch.empty_like(y, device="cpu"),
        0,
    )  # logits of a large set are not kept: they would hold its memory in pieces
    for i in range(0, len(y), size):
        with torch.no_grad():
            logits = c.network(pixels(slice(i, i + size)))
        predicted[i : i + size], classes = logits.argmax(1), logits.shape[1]
    k, n = int((predicted == y.cpu()).sum()), len(y)
    text = f"clean accuracy {100 * k / n:.1f} % ({k} of {n})"
    if c.expected_clean is not None:
        low, high, _ = clopper_pearson(k, n, 0.99)
        ok = low - SLACK <= c.expected_clean <= high + SLACK
        declared = f"{text}, declared {100 * c.expected_clean:.1f} %: wrong weights, preprocessing or labels"
        return [Answer(ok, k / n, c.expected_clean, text if ok else declared)]
    if better := better_labels(predicted.numpy(), y.cpu().numpy(), classes):
        return [Answer(False, k / n, better.accuracy, f"{text}, but {better.text}; {FIX}")]
    guess = f"guessing among {classes} classes is {100 / classes:.3g} %"
    otherwise = better_input(c.network, pixels(slice(0, IMAGES)), y[:IMAGES])
    if verdict := at_chance(k, n, classes):
        if verdict == "few":
            few = f"{text} cannot be told from guessing, and {guess}; take more images"
            return [Answer(False, k / n, 1 / classes, few, severity="WARN")]
        fix = f"{otherwise.text}; {FIX}" if otherwise else FIX
        return [Answer(False, k / n, 1 / classes, f"{text} is no better than guessing, and {guess}; {fix}")]
    if otherwise:
        return [Answer(False, k / n, otherwise.accuracy, f"{text}, but {otherwise.text}; {FIX}", severity="WARN")]
    unchecked = f"{text}, not checked against a declared value (--expect-clean)"
    return [Answer(True, k / n, float("nan"), unchecked, severity="INFO")]

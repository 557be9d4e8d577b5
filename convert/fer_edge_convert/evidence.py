"""Find out from labelled faces what a model does not state: the order of its labels and the values of its pixels.

A model that is right with one order of labels is right with it in any range of pixels that it can be used with, so the
order is looked for first: the assignment of outputs to labels under which most faces are right (the assignment problem,
Kuhn 1955, solved by `scipy.optimize.linear_sum_assignment`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from scipy.optimize import linear_sum_assignment

from fer_edge.classification.labels import FER2013, FERPLUS, RAFDB, canonical_label
from fer_edge.errors import InputError
from fer_edge.tflite.graph import read_graph
from fer_edge.utils.words import listed
from fer_edge_convert.flatbuffer import Images, run_model
from fer_edge_convert.pixel_values import PixelValues, usual_values
from fer_edge_convert.stage import SEED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from fer_edge.datasets.dataset import Dataset
    from fer_edge_convert.sources import SourceModel

_ROUNDS: Final = (120, 400, 1600)  # faces; ways that are clearly worse are left after each round
_COST: Final = 1e12  # multiply-adds that may be spent, beyond the first round
_MARGIN: Final = 0.02  # of accuracy, by which the best must beat another; and by three times the noise
_SIGMAS: Final = 3.0
# Share of the way from chance to always right that a model must be above; random weights give a part of it.
_LEAST_KNOWLEDGE: Final = 0.15
_ORDERS: Final = {"FER-2013's order": FER2013, "FER+'s order": FERPLUS, "RAF-DB's order": RAFDB}


@dataclass(frozen=True, slots=True)
class _Result:
    """The answers of a model for faces whose pixels have certain values.

    Attributes:
        pixels: the values.
        said: index of the output with the highest score for each face.
        order: for each output, the index of the label that fits best.
    """

    pixels: PixelValues
    said: npt.NDArray[np.int64]
    order: npt.NDArray[np.int64]

    def right(self, truth: npt.NDArray[np.int64], order: npt.NDArray[np.int64] | None = None) -> npt.NDArray[np.bool_]:
        """Return whether each face is right, under an order of labels; by default the best one."""
        right: npt.NDArray[np.bool_] = (self.order if order is None else order)[self.said] == truth
        return right


@dataclass(frozen=True, slots=True)
class Finding:
    """What the data shows about a model.

    Attributes:
        labels: names of its outputs, in order.
        pixels: the values of its pixels.
        lines: what to tell the user, one line each.
    """

    labels: tuple[str, ...]
    pixels: PixelValues
    lines: tuple[str, ...]


def find_out(
    source: SourceModel,
    data: Dataset,
    usage: str | None,
    labels: tuple[str, ...] = (),
    pixels: PixelValues | None = None,
) -> Finding:
    """Find the order of a model's labels and the values of its pixels, or check what the user says of them.

    Args:
        source: the model.
        data: labelled faces.
        usage: the part of them to use; by default what is neither Training nor validation.
        labels: names of its outputs; empty looks for their order.
        pixels: values of its pixels; None looks for them.

    Raises:
        InputError: the data does not tell, or contradicts what the user says.
        DataError: the data has a label that the model does not have.
    """
    test = data.select_usage(usage)
    names = labels or _names_of(source, test)
    rng = np.random.default_rng(SEED)
    rows = np.sort(rng.permutation(len(test))[: _ROUNDS[-1]])
    truth = test.classes_for(names)[rows]
    training = data.faces[np.sort(rng.permutation(len(data))[:2000])]
    ways = usual_values(source.channels, float(training.mean()), float(training.std()))
    if pixels is not None:
        ways = [pixels, *(way for way in ways if way.option != pixels.option)]
    results, used = _compare(source, test.faces[rows], truth, ways, keep=pixels)
    truth = truth[used]
    best = _choose_pixels(results, truth)
    chance = float(np.bincount(truth).max() / len(truth))
    informed = _knows_labels(best.said, truth, source.outputs, chance)
    if not informed and (pixels is None or not labels):
        shares = ", ".join(f"{one.pixels.name} {one.right(truth).mean():.0%}" for one in results)
        raise InputError(
            f"{source.path}: the data does not tell which values its pixels had in training (right on {shares} of"
            f" {len(truth)} faces, and {chance:.0%} are of one label): give"
            f" {' and '.join(('--labels',) * (not labels) + ('--input-range',) * (pixels is None))}"
        )
    order = _find_order(source, best, truth, names, given=bool(labels)) if informed else names
    chosen = best
    if pixels is not None:
        chosen = next(result for result in results if result.pixels is pixels)
        if informed:
            _refuse_pixels(source, chosen, best, truth)
    lines = []
    # Where the data tells nothing at all, who converts is warned that the model is right no more than by chance.
    doubt = _spell_doubt(chosen, results, truth, np.array([names.index(label) for label in order])) if informed else ""
    if pixels is None or not labels or doubt:
        share = float((chosen.said == test.classes_for(order)[rows][used]).mean())
        stated = ", as stated" if pixels is not None else ""
        lines.append(f"pixels      {chosen.pixels.name}{stated}: right on {share:.1%} of {len(truth)} faces{doubt}")
    if not labels:
        lines.append(f"labels      {','.join(order)}, the order in which most faces are right")
    return Finding(order, chosen.pixels, tuple(lines))


def _spell_doubt(
    chosen: _Result, results: Sequence[_Result], truth: npt.NDArray[np.int64], order: npt.NDArray[np.int64]
) -> str:
    """Return which other values of pixels the data does not tell from the chosen ones, and how to choose them."""
    right = chosen.right(truth, order)
    others = {one.pixels: one.right(truth, order) for one in results if one is not chosen}
    alike = {
        pixels: float(other.mean())
        for pixels, other in others.items()
        if not (_is_better(other, right) or _is_better(right, other))
    }
    if not alike:
        return ""
    shares = listed([f"{pixels.name} ({share:.1%})" for pixels, share in alike.items()], "or")
    options = listed([pixels.option for pixels in alike], "or")
    return f"; the data does not tell that from {shares}: if it was trained so, give {options}"


def _names_of(source: SourceModel, data: Dataset) -> tuple[str, ...]:
    """Return the labels of the data, if there are as many as the model has outputs."""
    present = tuple(data.labels[i] for i in np.unique(data.classes))
    if len(present) != source.outputs:
        raise InputError(
            f"{source.path}: it has {source.outputs} outputs and does not say what they mean, and the data has"
            f" {len(present)} labels ({', '.join(present)}): give --labels, the names of its outputs in their order"
        )
    return present


def _compare(
    source: SourceModel,
    faces: npt.NDArray[np.uint8],
    truth: npt.NDArray[np.int64],
    ways: Sequence[PixelValues],
    keep: PixelValues | None,
) -> tuple[list[_Result], npt.NDArray[np.int64]]:
    """Run the model in each way, on more and more faces, without those that turn out to be clearly worse.

    Returns:
        What the best ways gave, and the indices of the faces on which they were compared.
    """
    cost = max(sum(one.multiply_adds for one in read_graph(source.model, source.path).operations), 1)
    shuffled = np.random.default_rng(SEED).permutation(len(faces))
    said: dict[str, npt.NDArray[np.int64]] = {way.option: np.empty(0, np.int64) for way in ways}
    results: list[_Result] = []
    for number in _ROUNDS:
        done = len(said[ways[0].option])
        more = shuffled[done:number]
        if not len(more) or (done and cost * len(more) * len(ways) > _COST):
            break
        for way in ways:
            prepared = source.with_pixels(way)
            spec = source.input_spec(way.mapping)
            answers = run_model(prepared.model, Images(faces[more], spec)).argmax(axis=1)
            said[way.option] = np.concatenate([said[way.option], answers])
        used = shuffled[: done + len(more)]
        results = [
            _Result(way, said[way.option], _assign(said[way.option], truth[used], source.outputs)) for way in ways
        ]
        best = max(results, key=lambda result: float(result.right(truth[used]).mean()))
        results = [
            one
            for one in results
            if one.pixels is keep or not _is_better(best.right(truth[used]), one.right(truth[used]))
        ]
        ways = [one.pixels for one in results]
    return results, used


def _assign(said: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], outputs: int) -> npt.NDArray[np.int64]:
    """Return the label for each output under which most faces are right; where it makes no difference, its own."""
    counts = np.zeros((outputs, outputs))
    np.add.at(counts, (said, truth), 1)
    _, order = linear_sum_assignment(counts + 1e-3 * np.eye(outputs), maximize=True)
    return np.asarray(order, np.int64)


def _knows_labels(said: npt.NDArray[np.int64], truth: npt.NDArray[np.int64], outputs: int, chance: float) -> bool:
    """Return whether a model is right much more often than by chance, under an order found on other faces."""
    even = np.arange(len(said)) % 2 == 0
    right = [_assign(said[~part], truth[~part], outputs)[said[part]] == truth[part] for part in (even, ~even)]
    share = float(np.concatenate(right).mean())
    noise = _SIGMAS * (chance * (1 - chance) / len(truth)) ** 0.5
    return share > chance + float(max(noise, _LEAST_KNOWLEDGE * (1 - chance)))


def _is_better(one: npt.NDArray[np.bool_], other: npt.NDArray[np.bool_]) -> bool:
    """Return whether one way is right on clearly more of the same faces than another."""
    gain = one.astype(np.float64) - other
    return bool(gain.mean() > max(_MARGIN, _SIGMAS * gain.std() / len(gain) ** 0.5))


def _choose_pixels(results: Sequence[_Result], truth: npt.NDArray[np.int64]) -> _Result:
    """Return the way in which most faces are right.

    A model that was trained on standardized pixels loses little with images that are standardized one by one: half a
    point of FER-2013's faces. So these must be better by the noise of the comparison.
    """
    best = max(results, key=lambda result: (result.right(truth).mean(), not result.pixels.per_image))
    others = [one for one in results if not one.pixels.per_image]
    if not (best.pixels.per_image and others):
        return best
    usual = max(others, key=lambda result: float(result.right(truth).mean()))
    gain = best.right(truth).astype(np.float64) - usual.right(truth)
    return best if gain.mean() > gain.std() / len(gain) ** 0.5 else usual


def _find_order(
    source: SourceModel, result: _Result, truth: npt.NDArray[np.int64], names: tuple[str, ...], *, given: bool
) -> tuple[str, ...]:
    """Return the order of the labels, or refuse the user's order if another is clearly better."""
    own = np.arange(len(names))
    best = tuple(names[i] for i in result.order)
    if given and not _is_better(result.right(truth), result.right(truth, own)):
        return names
    right = {"": result.right(truth)}
    orders = {"": best}
    for title, order in _usual_orders(names).items():
        numbers = np.array([names.index(label) for label in order])
        right[title], orders[title] = result.right(truth, numbers), order
    # A usual order that is as good is likelier than one which differs from it on a few faces.
    usual = [title for title in orders if title and not _is_better(right[""], right[title])]
    title = max(usual, key=lambda one: float(right[one].mean())) if usual else ""
    spelled = ",".join(orders[title])
    if given:
        raise InputError(
            f"{source.path}: the data contradicts the order of the labels: right on"
            f" {result.right(truth, own).mean():.0%} of {len(truth)} faces, but on {right[title].mean():.0%} in"
            f" {title or 'another order'}; give --labels {spelled}, or --unchecked to convert it all the same"
        )
    if not title:
        raise InputError(
            f"{source.path}: it does not say what its outputs mean; on the data it is right most often"
            f" ({right[''].mean():.0%} of {len(truth)} faces) with --labels {spelled}: give that, or the right order"
        )
    return orders[title]


def _usual_orders(names: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """Return the orders that are usual for some labels, by their names; labels keep their spelling."""
    by_canonical = {canonical_label(name): name for name in names}
    if len(by_canonical) < len(names):
        return {}
    orders = {"alphabetical order": tuple(by_canonical[label] for label in sorted(by_canonical))}
    for title, order in _ORDERS.items():
        if by_canonical.keys() <= set(order):
            orders[title] = tuple(by_canonical[label] for label in order if label in by_canonical)
    return orders


def _refuse_pixels(source: SourceModel, chosen: _Result, best: _Result, truth: npt.NDArray[np.int64]) -> None:
    """Refuse the user's values of pixels if others are clearly better."""
    if _is_better(best.right(truth), chosen.right(truth)):
        raise InputError(
            f"{source.path}: the data contradicts {chosen.pixels.option}: right on {chosen.right(truth).mean():.0%} of"
            f" {len(truth)} faces, but on {best.right(truth).mean():.0%} with {best.pixels.option}; give that, or"
            " --unchecked to convert it all the same"
        )

"""Measure how much near-duplicates of training faces in the test set raise a model's accuracy.

    python benchmarks/near_duplicates.py fer2013.csv [--model edge] [--votes fer2013new.csv]

Prints how many test faces have a near-duplicate among the Training faces, how often both have the same label, and the
accuracy of a model on these and on the other test faces.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from fer_edge.classification.classifier import TFLiteClassifier
from fer_edge.datasets.dataset import TRAINING
from fer_edge.datasets.ferplus import add_votes, label_by_majority
from fer_edge.datasets.near_duplicates import near_duplicates
from fer_edge.datasets.readers import load_dataset
from fer_edge.errors import FerEdgeError
from fer_edge.model_zoo import find_model


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--model", type=Path, default=Path("edge"))
    parser.add_argument("--votes", type=Path)
    options = parser.parse_args()
    data = load_dataset(options.data)
    if options.votes:
        data = label_by_majority(add_votes(data, options.votes))
    group = near_duplicates(data.faces)
    faces = np.bincount(group)
    print(f"{len(data)} faces, {faces[faces > 1].sum()} of them in {(faces > 1).sum()} groups of near-duplicates")
    in_training = data.usages == TRAINING
    label_of = dict(zip(group[in_training][::-1], data.classes[in_training][::-1], strict=True))
    tested = np.flatnonzero(~in_training)
    repeated = np.isin(group[tested], group[in_training])
    same = np.mean([label_of[group[row]] == data.classes[row] for row in tested[repeated]])
    print(f"{repeated.sum()} of {len(tested)} test faces have one in Training, {same:.1%} under the same label")
    classifier = TFLiteClassifier(find_model(options.model))
    answers = classifier.classify(data.faces[tested]).argmax(axis=1)
    right = answers == data.select(~in_training).classes_for(classifier.card.labels)
    for name, chosen in (("all", np.ones(len(tested), bool)), ("repeated", repeated), ("new", ~repeated)):
        print(f"{classifier.card.name} on {name} test faces: {right[chosen].mean():.2%} of {chosen.sum()}")


if __name__ == "__main__":
    try:
        main()
    except FerEdgeError as error:
        sys.exit(str(error))

"""Print the expression of each face in an image, and save an annotated copy.

python examples/photo.py docs/frame.png --save annotated.png
"""

import argparse
import sys

import fer_edge


def main() -> None:
    """Read the command line and process the image."""
    parser = argparse.ArgumentParser(description="Print the expression of each face in an image.")
    parser.add_argument("image", help="image file")
    parser.add_argument("--save", metavar="FILE", help="where to write a copy with boxes and labels")
    options = parser.parse_args()

    # Loading takes a moment; a program that processes many images does it once.
    recognizer = fer_edge.load("edge")

    faces = recognizer(options.image)
    print(f"{options.image}: {len(faces)} face{'' if len(faces) == 1 else 's'}")
    for face in faces:  # the largest first
        x, y, width, height = face.box
        print(f"  {face.emotion} {face.score:.0%} at {x:.0f},{y:.0f}, {width:.0f} x {height:.0f} pixels")
        # Every emotion has a score; the scores of a face add up to 1.
        for emotion, score in sorted(face.scores.items(), key=lambda item: -item[1]):
            print(f"    {emotion:<10}{score:6.1%} {'#' * round(score * 40)}")

    if options.save:
        fer_edge.annotate(options.image, faces, save=options.save)
        print(f"annotated copy: {options.save}")


if __name__ == "__main__":
    try:
        main()
    except fer_edge.FerEdgeError as error:  # a file that is not there, or not an image: the message says it all
        sys.exit(f"photo.py: {error}")

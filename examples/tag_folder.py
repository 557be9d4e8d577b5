"""Tag the images and videos of a folder, and print how often each emotion is there.

python examples/tag_folder.py holiday/ --every 1s --csv faces.csv
"""

import argparse
import csv
import sys
from collections import Counter
from pathlib import Path

import fer_edge


def main() -> None:
    """Read the command line, tag, and print."""
    parser = argparse.ArgumentParser(description="Count the expressions in the images and videos of a folder.")
    parser.add_argument("paths", nargs="+", help="images, videos, folders, archives")
    parser.add_argument("--every", default="1s", help="time between the processed frames of a video")
    parser.add_argument("--csv", metavar="FILE", help="where to write a row for each face")
    options = parser.parse_args()

    if options.csv and not Path(options.csv).absolute().parent.is_dir():  # better now than after all the work
        sys.exit(f"tag_folder.py: {options.csv}: there is no such folder; create it first")

    rows = []
    # Rows come as soon as their image is done. An image that cannot be read is a row with an error, not an exception.
    for row in fer_edge.tag(options.paths, every=options.every):
        rows.append(row)
        if row["error"]:
            print(f"skipped: {row['error']}", file=sys.stderr)

    emotions = Counter(row["emotion"] for row in rows if row["emotion"])
    files, faces = len({row["path"] for row in rows}), emotions.total()
    print(f"{files} file{'' if files == 1 else 's'}, {faces} face{'' if faces == 1 else 's'}")
    for emotion, count in emotions.most_common():
        print(f"  {emotion:<10}{count:>6}")

    if options.csv:
        with Path(options.csv).open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    try:
        main()
    except fer_edge.FerEdgeError as error:
        sys.exit(f"tag_folder.py: {error}")
    except OSError as error:
        sys.exit(f"tag_folder.py: {error.filename}: {error.strerror}")

"""Mutants of every reader's inputs, one after the other in a process that may die: ``python -m tests.fuzz.run``.

    python -m tests.fuzz.run [--mutants 100000] [--seed 0] [--processes 1] [--reader NAME]

Prints, for each reader, how many mutants were read and refused, and every failure with its seed: an exception that is
not ours, a message of two lines, a signal, more than ten seconds, or more than 700 MB.  The exit status is 1 if there
is one.
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import random
import resource
import signal
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from fer_edge.errors import FerEdgeError
from fer_edge.tflite import trial
from fer_edge.utils.native_stderr import hide_native_stderr
from fer_edge_convert.formats import isolated, tensorflow

from .model_readers import read_in_fork
from .mutate import mutate
from .reader import Reader, is_one_line
from .readers import readers, try_in_fork

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized
    from types import FrameType

MAX_S: Final = 10
_MAX_MB: Final = 700
_TENSORFLOW_MB: Final = 850  # that it takes by itself
_MAX_ADDRESS_SPACE: Final = 3_000_000 << 10


class HangError(BaseException):
    """Raised in a reader that takes too long; no handler of the reader catches it."""


def check(reader: Reader, seed: int, folder: Path) -> str:
    """Let a reader read one mutant.

    Returns:
        ``read`` or ``refused``; anything else is a failure.
    """
    generator = random.Random(f"{reader.name} {seed}")  # noqa: S311 - not for a secret
    path = folder / reader.name
    path.write_bytes(mutate(generator.choice(reader.seeds), generator, reader.seeds))
    try:
        with warnings.catch_warnings(action="ignore"):
            reader.read(path)
    except FerEdgeError as error:
        return "refused" if is_one_line(str(error)) else f"a bad message: {error!r}"
    except HangError:
        return f"more than {MAX_S} s"
    except Exception as error:  # noqa: BLE001 - this is what is searched for
        return f"{type(error).__name__}: {error}"
    return "read"


def _work(
    reader: Reader,
    first: int,
    last: int,
    position: Synchronized[int],
    results: multiprocessing.SimpleQueue[tuple[int, str]],
) -> None:
    gc.freeze()  # as in read_in_fork
    if not reader.needs_tensorflow:  # whose threads reserve more
        resource.setrlimit(resource.RLIMIT_AS, (_MAX_ADDRESS_SPACE,) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _hang)
    trial._try = try_in_fork
    isolated.run_reader = read_in_fork
    max_mb = _MAX_MB
    if reader.needs_tensorflow:
        tensorflow.load()
        max_mb += _TENSORFLOW_MB
    with tempfile.TemporaryDirectory() as folder, hide_native_stderr():
        for seed in range(first, last):
            position.value = seed
            signal.alarm(MAX_S)
            outcome = check(reader, seed, Path(folder))
            signal.alarm(0)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
            results.put((seed, outcome if peak < max_mb else f"{peak} MB"))
            if peak >= max_mb:
                os._exit(0)


def _hang(_number: int, _frame: FrameType | None) -> None:
    raise HangError


def fuzz(reader: Reader, first: int, count: int) -> tuple[Counter[str], list[str]]:
    """Let a reader read some mutants, in processes that are replaced when they die.

    Returns:
        How many mutants were read and refused, and a line for each failure.
    """
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    failures = []
    seed, last = first, first + count
    while seed < last:
        position, results = context.Value("q", seed), context.SimpleQueue()
        process = context.Process(target=_work, args=(reader, seed, last, position, results))
        process.start()
        while process.is_alive() or not results.empty():
            if results.empty():
                process.join(0.05)
                continue
            number, outcome = results.get()
            seed = number + 1
            counts[outcome if outcome in {"read", "refused"} else "failed"] += 1
            if outcome not in {"read", "refused"}:
                failures.append(f"{reader.name} {number}: {outcome}")
        if process.exitcode:
            seed = position.value + 1
            counts["failed"] += 1
            failures.append(f"{reader.name} {position.value}: the process ended with {process.exitcode}")
    return counts, failures


def main() -> int:
    """Fuzz all readers, or one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--mutants", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--reader")
    options = parser.parse_args()
    chosen = [reader for reader in readers() if options.reader in {None, reader.name}]
    share = options.mutants / sum(1 / reader.cost for reader in chosen)
    failed, total, start = 0, 0, time.monotonic()
    for reader in chosen:
        begin = time.monotonic()
        counts, failures = fuzz(reader, options.seed, max(round(share / reader.cost), 1))
        failed, total = failed + len(failures), total + counts.total()
        took = time.monotonic() - begin
        print(
            f"{reader.name:<16}{counts['read']:>8} read {counts['refused']:>8} refused"
            f" {len(failures):>5} failed {took:>7.0f} s"
        )
        for line in failures[:20]:
            print(f"  {line}")
        sys.stdout.flush()
    print(f"{total} mutants in {(time.monotonic() - start) / 3600:.2f} hours, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

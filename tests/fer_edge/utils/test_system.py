"""Test what is said of the machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from fer_edge.utils.system import has_dot_products

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("Features\t: fp asimd evtstrm crc32 cpuid", False),  # Zero 2 W, 3 and 4
        ("Features\t: fp asimd evtstrm aes pmull atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp", True),  # 5
        ("Features\t: half thumb fastmult vfp edsp neon vfpv3 tls vfpv4 idiva idivt vfpd32 lpae evtstrm crc32", False),
        ("flags\t\t: fpu sse2 avx2 avx512f avx512_vnni", True),
        ("flags\t\t: fpu sse2 avx2 fma", False),
        ("", False),
    ],
)
def test_finds_dot_products_of_int8_numbers(tmp_path: Path, line: str, *, expected: bool) -> None:
    (tmp_path / "cpuinfo").write_text(f"processor\t: 0\nmodel name\t: asimddp-like\n{line}\n")
    assert has_dot_products(tmp_path / "cpuinfo") is expected


def test_unknown_processor_has_no_dot_products(tmp_path: Path) -> None:
    assert not has_dot_products(tmp_path / "missing")

"""Damaged tar files are refused, wherever the damage is; intact ones are read."""

from __future__ import annotations

import io
import os
import random
import tarfile
from pathlib import Path

import pytest

from spectra_jax.data.sources import collect
from spectra_jax.errors import InputError
from tests.data.sources.writing import write_tar

SIZE = 700


@pytest.fixture(params=[tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"])
def form(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=["", "a-folder/" * 12], ids=["short names", "long names"])
def shard(request: pytest.FixtureRequest, tmp_path: Path, form: int) -> Path:
    """An intact tar file of three clips, which is read."""
    file = tmp_path / "s.tar"
    with tarfile.open(file, "w", format=form) as tar:
        for number in range(3):
            member = tarfile.TarInfo(f"{request.param}{number}.wav")
            member.size = SIZE
            tar.addfile(member, io.BytesIO(bytes([number + 1]) * SIZE))
    assert_read(file)
    return file


def assert_read(file: Path) -> None:
    expected = [(str(number), bytes([number + 1]) * SIZE) for number in range(3)]
    assert [(trial.utterance_id, trial.content) for trial in collect([file])] == expected


def headers_of(content: bytes) -> list[int]:
    """Where the headers are."""
    return [start for start in range(0, len(content), 512) if content[start + 257 : start + 262] == b"ustar"]


def test_a_flipped_bit_of_a_header_is_an_error_and_not_the_end(shard: Path) -> None:
    content = shard.read_bytes()
    randomness = random.Random(0)
    # The byte after the NUL that ends the checksum is not used: flipping one of its bits changes nothing.
    unused = 155
    for header in headers_of(content):
        for byte in {*randomness.sample(range(512), 12), unused}:
            damaged = bytearray(content)
            damaged[header + byte] ^= 1 << randomness.randrange(8)
            shard.write_bytes(damaged)
            if byte == unused:
                assert_read(shard)
                continue
            with pytest.raises(InputError) as caught:
                collect([shard])
            assert str(caught.value).startswith(f"{shard}: ")
    shard.write_bytes(content)
    assert_read(shard)


def test_a_shard_that_is_cut_short_is_an_error(shard: Path) -> None:
    content = shard.read_bytes()
    last = headers_of(content)[-1] + 512 + 1024
    for end in range(512, last + 1, 512):
        shard.write_bytes(content[:end])
        with pytest.raises(InputError, match=r"not a tar file|cut short"):
            collect([shard])
    # The two blocks of zeros that end a tar file are enough; more is padding.
    shard.write_bytes(content[: last + 1024])
    assert_read(shard)


def test_anything_but_members_between_headers_is_an_error(shard: Path) -> None:
    content = shard.read_bytes()
    last = headers_of(content)[-1]
    for inserted in (
        content[:last] + b"x" * 512 + content[last:],
        content[:last] + bytes(1024) + content[last:],
        content + content,
    ):
        shard.write_bytes(inserted)
        with pytest.raises(InputError, match=r"damaged tar file: (the header at byte|more follows after its end)"):
            collect([shard])


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_damaged_compressed_shard_is_an_error(tmp_path: Path, mode: str) -> None:
    file = write_tar(tmp_path / "s.tar.gz", {f"{n}.wav": random.Random(n).randbytes(3000) for n in range(4)}, mode)
    complete = file.read_bytes()
    contents = [random.Random(n).randbytes(3000) for n in range(4)]
    assert [trial.content for trial in collect([file])] == contents
    for content in (
        complete[:-1],
        complete[:-9],
        complete[: len(complete) // 2],
        complete[:-7] + b"\x55" + complete[-6:],
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"s\.tar\.gz: "):
            collect([file])


def test_a_tar_of_the_oldest_format_is_read(tmp_path: Path) -> None:
    header = bytearray(512)
    header[:5], header[100:107], header[124:135], header[148:156] = b"1.wav", b"0000644", b"00000000003", b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "s.tar").write_bytes(bytes(header) + b"one" + bytes(509) + bytes(1024))
    (trial,) = collect([tmp_path / "s.tar"])
    assert trial.content == b"one"


def test_headers_with_huge_sizes_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "s.tar"
    for kind in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.GNUTYPE_LONGNAME):
        known = tarfile.TarInfo("long")
        known.type, known.size = kind, 1 << 33
        file.write_bytes(known.tobuf(tarfile.GNU_FORMAT))
        os.truncate(file, 1 << 34)  # sparse, so that it takes no disk
        with pytest.raises(InputError, match="states a size of 8,589,934,592 bytes"):
            collect([file])
    # A sparse member: ten kilobytes that expand to terabytes.
    known = tarfile.TarInfo("1.wav")
    known.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(known.tobuf(tarfile.GNU_FORMAT))
    header[386:410] = b"00000000000\0" + b"00000000000\0"
    header[482:495] = b"\0" + b"77777777777\0"
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    file.write_bytes(bytes(header) + bytes(1024))
    (trial,) = collect([file])
    assert trial.content is None and trial.problem is not None
    assert "1.wav: 8,589,934,591 bytes, more than the 1,073,741,824" in trial.problem

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


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
@pytest.mark.parametrize("long", [False, True])
def test_a_damaged_header_is_an_error_and_not_the_end(tmp_path: Path, form: int, long: bool) -> None:
    file = tmp_path / "s.tar"
    folder = ("a-folder/" * 12) if long else ""
    with tarfile.open(file, "w", format=form) as tar:
        for number in range(3):
            known = tarfile.TarInfo(f"{folder}{number}.wav")
            known.size = 700
            tar.addfile(known, io.BytesIO(bytes([number + 1]) * 700))
    whole = file.read_bytes()
    names = [trial.utterance_id for trial in collect([file])]
    assert names == ["0", "1", "2"]
    headers = [at for at in range(0, len(whole), 512) if whole[at + 257 : at + 262] == b"ustar"]
    randomness = random.Random(0)
    for at in headers:
        for byte in randomness.sample(range(512), 12):
            damaged = bytearray(whole)
            damaged[at + byte] ^= 1 << randomness.randrange(8)
            file.write_bytes(damaged)
            try:
                # One of the two bytes after the checksum changes nothing.
                assert [trial.utterance_id for trial in collect([file])] == names
                assert byte in (154, 155)
            except InputError as error:
                assert str(error).startswith(f"{file}: ")
    last = headers[-1] + 512 + 1024
    for end in range(512, last + 1, 512):
        file.write_bytes(whole[:end])
        with pytest.raises(InputError, match=r"not a tar file|cut short"):
            collect([file])
    # Between members: garbage, zeros, another archive.
    for content in (
        whole[: headers[-1]] + b"x" * 512 + whole[headers[-1] :],
        whole[: headers[-1]] + bytes(1024) + whole[headers[-1] :],
        whole + whole,
    ):
        file.write_bytes(content)
        with pytest.raises(InputError, match=r"damaged tar file: (the header at byte|more follows after its end)"):
            collect([file])


@pytest.mark.parametrize("mode", ["w:gz", "w:bz2", "w:xz"])
def test_a_damaged_compressed_shard_is_an_error(tmp_path: Path, mode: str) -> None:
    file = write_tar(tmp_path / "s.tar.gz", {f"{n}.wav": random.Random(n).randbytes(3000) for n in range(4)}, mode)
    whole = file.read_bytes()
    assert len(collect([file])) == 4
    for content in (whole[:-1], whole[:-9], whole[: len(whole) // 2], whole[:-7] + b"\x55" + whole[-6:]):
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

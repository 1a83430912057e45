"""RAR archives without compression, and ZIP archives, made by the tests.

No free program writes RAR. The layouts are those of the format's public notes (RAR 5.0 archive
format, rarlab.com/technote.htm; RAR 3.x, technote of version 3.93).
"""

import io
import stat
import struct
import zipfile
from collections.abc import Mapping
from zlib import crc32

Files = Mapping[str, bytes]


def _vint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _block5(fields: bytes, data: bytes = b"") -> bytes:
    head = _vint(len(fields)) + fields
    return struct.pack("<I", crc32(head)) + head + data


def _file5(name: str, data: bytes, *, link: str | None = None, crc: int | None = None) -> bytes:
    encoded = name.encode()
    folder = name.endswith("/")
    extra = b""
    if link is not None:
        record = _vint(5) + _vint(1) + _vint(0) + _vint(len(link)) + link.encode()
        extra = _vint(len(record)) + record
    fields = _vint(2) + _vint(2 | bool(extra))
    fields += (_vint(len(extra)) if extra else b"") + _vint(len(data))
    fields += _vint(1 if folder else 4) + _vint(len(data))
    fields += _vint(stat.S_IFDIR | 0o755 if folder else stat.S_IFREG | 0o644)
    fields += b"" if folder else struct.pack("<I", crc32(data) if crc is None else crc)
    fields += _vint(0) + _vint(1) + _vint(len(encoded)) + encoded + extra
    return _block5(fields, data)


def rar5(files: Files, links: Mapping[str, str] = {}, crc: int | None = None) -> bytes:
    """Return a RAR 5 archive; ``crc`` puts a wrong checksum into it."""
    out = b"Rar!\x1a\x07\x01\x00" + _block5(_vint(1) + _vint(0) + _vint(0))
    for name, data in files.items():
        out += _file5(name, data, crc=crc)
    for name, target in links.items():
        out += _file5(name, b"", link=target)
    return out + _block5(_vint(5) + _vint(0) + _vint(0))


def _block4(kind: int, flags: int, fields: bytes, data: bytes = b"") -> bytes:
    head = struct.pack("<BHH", kind, flags, 7 + len(fields)) + fields
    return struct.pack("<H", crc32(head) & 0xFFFF) + head + data


def rar4(files: Files) -> bytes:
    """Return an archive of RAR 3, the format of HMDB51 and UCF101."""
    out = b"Rar!\x1a\x07\x00" + _block4(0x73, 0, bytes(6))
    for name, data in files.items():
        encoded = name.encode()
        fields = struct.pack(
            "<IIBIIBBHI",
            len(data),
            len(data),
            3,  # Unix
            crc32(data),
            0x21 << 16,
            20,
            0x30,  # stored
            len(encoded),
            stat.S_IFREG | 0o644,
        )
        out += _block4(0x74, 0x8000, fields + encoded, data)
    return out + _block4(0x7B, 0x4000, b"")


def zip_archive(files: Files, links: Mapping[str, str] = {}) -> bytes:
    """Return a ZIP archive, deflated."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)
        for name, target in links.items():
            info = zipfile.ZipInfo(name)
            info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, target)
    return out.getvalue()

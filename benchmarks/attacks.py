"""Requests that no client would send: right ones of both protocols, spoilt at random."""

import gzip
import io
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from gamt.server import frames

SHAPE = (6, 14, 19)
"""Of the image: 1596 voxels."""

BOUNDARY = b"7c1f0e5d9a6b4c35"


@dataclass(frozen=True, slots=True)
class Attack:
    """A request.

    Attributes:
        name: what is wrong with it.
        path: where it goes.
        body: what follows its headers.
        headers: one a line, without those that all requests have.
        method: of HTTP.
        length: what Content-Length says; None for the body's length, and "" for no such header.
        may_pass: whether it may still be right.
    """

    name: str
    path: str
    body: bytes = b""
    headers: tuple[bytes, ...] = ()
    method: bytes = b"POST"
    length: bytes | None = None
    may_pass: bool = False

    def as_bytes(self, token: str) -> bytes:
        """Returns the request as it is sent, in the session that a token stands for."""
        length = str(len(self.body)).encode() if self.length is None else self.length
        lines = [
            self.method + b" " + self.path.encode("latin-1") + b" HTTP/1.1",
            b"Host: localhost",
            b"Connection: close",
            *([b"Content-Length: " + length] if length else []),
            *(line.replace(b"TOKEN", token.encode()) for line in self.headers),
        ]
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


LEASED = (b"X-Lease-Token: TOKEN",)
BINARY = (*LEASED, b"Content-Type: application/octet-stream")
JSON_HEADERS = (*LEASED, b"Content-Type: application/json")
FORM = (b"Content-Type: multipart/form-data; boundary=" + BOUNDARY,)


def draw_attack(seed: int, number: int) -> Attack:
    """Returns one of the requests of a seed."""
    rng = np.random.default_rng((seed, number))
    groups: tuple[Callable[[np.random.Generator], Attack], ...] = (
        spoil_frame,
        spoil_json,
        spoil_meta,
        spoil_http,
        spoil_form,
    )
    return groups[rng.choice(len(groups), p=(0.35, 0.25, 0.1, 0.1, 0.2))](rng)


# Frames


BOX_META = {"include_interaction": True, "interaction_bbox": [[2, 3], [4, 9], [5, 11]]}


def right_frame(rng: np.random.Generator) -> Attack:
    """Returns a request with a frame that is right."""
    crop = frames.pack(np.ones((1, 5, 6), np.uint8))
    requests: tuple[tuple[str, dict[str, object], bytes], ...] = (
        (
            "/set_image",
            {"image_properties": {"spacing": [3, 1, 1]}},
            frames.pack(draw_image()[None]),
        ),
        ("/add_scribble_interaction", BOX_META, crop),
        ("/add_lasso_interaction", BOX_META, crop),
        ("/add_initial_seg_interaction", {}, frames.pack(np.ones(SHAPE, np.uint8))),
    )
    path, meta, frame = requests[rng.integers(len(requests))]
    return Attack("frame", path, frame, (*BINARY, b"X-Meta: " + json.dumps(meta).encode()))


def spoil_frame(rng: np.random.Generator) -> Attack:
    """Returns a request whose frame isn't right, or perhaps."""
    right = right_frame(rng)
    frame = bytearray(right.body)
    dimensions, name_length = frame[6], frame[7]
    shape = 8 + name_length
    count = shape + 8 * dimensions
    chunk = count + 4
    name = str(
        rng.choice(
            (
                "magic",
                "version",
                "codec",
                "dimensions",
                "dtype",
                "shape",
                "cut",
                "tail",
                "count",
                "length",
                "compressed",
                "inner",
                "flips",
                "bomb",
                "noise",
            )
        )
    )
    match name:
        case "magic":
            frame[:4] = rng.bytes(4)
        case "version":
            frame[4] = rng.integers(2, 256)
        case "codec":
            frame[5] = rng.integers(3, 256)
        case "dimensions":
            frame[6] = (dimensions + rng.integers(1, 255)) % 256
        case "dtype":
            names = (b"object", b"U8", b"void64", b"datetime64[s]", b"complex64", b"\xff\xfe", b"")
            new = names[rng.integers(len(names))]
            frame[7:shape] = bytes([len(new)]) + new
        case "shape":
            sizes = (2**31, 2**62, -1, -(2**63), 2**40, 2**63 - 1, 0)
            axis = shape + 8 * int(rng.integers(dimensions))
            frame[axis : axis + 8] = struct.pack("<q", sizes[rng.integers(len(sizes))])
        case "cut":
            del frame[int(rng.integers(len(frame))) :]
        case "tail":
            frame += rng.bytes(int(rng.integers(1, 100)))
        case "count":
            counts = (0, 2, 2**16, 2**32 - 1)
            frame[count:chunk] = struct.pack("<I", counts[rng.integers(len(counts))])
        case "length" | "compressed":
            at = chunk if name == "length" else chunk + 8
            lengths = (0, 1, 2**31, 2**32, 2**63, 2**64 - 1)
            frame[at : at + 8] = struct.pack("<Q", lengths[rng.integers(len(lengths))])
        case "inner":  # the sizes that blosc2 has written itself
            at = chunk + 16 + 4 * int(rng.integers(1, 4))
            values = (0, 1, 2**31 - 1, -1, 2**20)
            frame[at : at + 4] = struct.pack("<i", values[rng.integers(len(values))])
        case "flips":
            flip_bits(frame, rng)
        case "bomb":  # 256 GiB of zeros in a few bytes each
            frame = bytearray(
                b"NNIA\x01\x01\x04\x05uint8" + struct.pack("<4q", 1, *[2**13] * 2, 2**12)
            )
            zeros = bytes.fromhex("05010701") + struct.pack("<iii", 2**30, 2**20, 32)
            zeros = zeros.ljust(31, b"\0") + b"\x10"
            frame += struct.pack("<I", 256) + (struct.pack("<QQ", 2**30, 32) + zeros) * 256
        case "noise":
            frame = bytearray(rng.bytes(int(rng.integers(0, 2000))))
    return replace(
        right, name=f"frame: {name}", body=bytes(frame), may_pass=name in ("flips", "inner")
    )


def flip_bits(data: bytearray, rng: np.random.Generator) -> None:
    """Flips a few bits anywhere."""
    for place in rng.integers(len(data), size=int(rng.integers(1, 6))).tolist():
        data[place] ^= 1 << int(rng.integers(8))


# JSON


BODIES: dict[str, dict[str, object]] = {
    "/set_target_buffer": {"shape": list(SHAPE), "dtype": "uint8"},
    "/set_do_autozoom": {"do_autozoom": True},
    "/add_point_interaction": {"coordinates": [2, 6, 9], "include_interaction": True},
    "/add_bbox_interaction": {
        "bbox_coords": [[2, 3], [3, 10], [4, 15]],
        "include_interaction": True,
    },
}
"""Bodies that are right; all of their fields are needed."""

VALUES = (
    b"NaN",
    b"-Infinity",
    b"1e400",
    b"null",
    b'"7"',
    b"{}",
    b"[]",
    b"[[[]]]",
    b"1" * 500,
    b"-9223372036854775809",
    b"[1,2]",
    b"[1,2,3,4]",
    b"[NaN,1,1]",
    b"[1.5,1,1]",
    b"[1e30,1,1]",
    b"[true,false,true]",
    b"[[1,2],[3,4]]",
    b"[[9,2],[3,9],[4,9]]",
    b"[[2,2],[3,9],[4,9]]",
    b"[-1,6,9]",
    b"[2,6,99]",
    b"0",
    b'"object"',
    b"[" * 500 + b"]" * 500,
)
"""Values that are right for none of these fields."""


def spoil_json(rng: np.random.Generator) -> Attack:
    """Returns a request whose JSON isn't right, or perhaps."""
    path = str(rng.choice(list(BODIES)))
    body = BODIES[path]
    text = bytearray(json.dumps(body).encode())
    name = str(
        rng.choice(
            (
                "value",
                "missing",
                "deep",
                "deep objects",
                "cut",
                "noise",
                "no object",
                "too long",
                "encoding",
                "flips",
            )
        )
    )
    match name:
        case "value":
            key = str(rng.choice(list(body)))
            rest = {one: value for one, value in body.items() if one != key}
            value = VALUES[rng.integers(len(VALUES))]
            text = bytearray(json.dumps(rest).encode()[:-1])
            text += (b", " if rest else b"") + json.dumps(key).encode() + b": " + value + b"}"
        case "missing":
            key = str(rng.choice(list(body)))
            text = bytearray(json.dumps(body | {key: None}).encode().replace(b"null", b""))
        case "deep":
            text = bytearray(b"[" * 60_000)
        case "deep objects":
            text = bytearray(b'{"a":' * 12_000)
        case "cut":
            del text[int(rng.integers(len(text))) :]
        case "noise":
            text = bytearray(rng.bytes(int(rng.integers(1, 300))))
        case "no object":
            texts = (b"", b"1", b"[]", b'"x"', b"null", b"true", b"{}", b"{}{}")
            text = bytearray(texts[rng.integers(len(texts))])
        case "too long":
            text += b" " * 1_000_000
        case "encoding":
            text = bytearray(json.dumps(body).encode(str(rng.choice(("utf-16", "utf-32")))))
        case "flips":
            flip_bits(text, rng)
    return Attack(f"JSON: {name}", path, bytes(text), JSON_HEADERS, may_pass=name == "flips")


def spoil_meta(rng: np.random.Generator) -> Attack:
    """Returns a request whose frame is right, but not what X-Meta says of it, or perhaps."""
    right = right_frame(rng)
    metas: dict[str, bytes] = {
        "no JSON": b"{'a': 1}",
        "no object": b"[1, 2]",
        "NaN": b'{"image_properties": {"spacing": [NaN, 1, 1]}, "include_interaction": NaN, '
        b'"run_prediction": NaN}',
        "types": b'{"image_properties": 7, "include_interaction": 7, "run_prediction": 7}',
        "deep": b"[" * 8000,
        "too long": b'{"include_interaction": true, "a": "' + b"x" * 20_000 + b'"}',
        "bytes": b"\xff\xfe\x80",
        "other bounds": b'{"include_interaction": true, "run_prediction": 1, "interaction_bbox": '
        b'[[2, 3], [4, 8], [5, 9]], "image_properties": {"spacing": [0, 1, 1]}}',
        "outside": b'{"include_interaction": true, "interaction_bbox": [[6, 7], [4, 9], [5, 11]], '
        b'"run_prediction": "", "image_properties": {"spacing": [1, 1]}}',
    }
    name = str(rng.choice([*metas, "flips"]))
    *others, line = right.headers
    if name == "flips":
        meta = bytearray(line.removeprefix(b"X-Meta: "))
        flip_bits(meta, rng)
        text = bytes(meta).translate(bytes.maketrans(b"\r\n\0", b"   "))
    else:
        text = metas[name]
    headers = (*others, b"X-Meta: " + text)
    return replace(right, name=f"X-Meta: {name}", headers=headers, may_pass=name == "flips")


def spoil_http(rng: np.random.Generator) -> Attack:
    """Returns a request that isn't right as HTTP, or for nobody."""
    path = str(rng.choice(list(BODIES)))
    right = Attack("", path, json.dumps(BODIES[path]).encode(), JSON_HEADERS)
    long = "/" + "a" * int(rng.integers(100, 5000))
    name = str(
        rng.choice(
            ("method", "path", "length", "chunks", "token", "header", "long header", "version")
        )
    )
    match name:
        case "method":
            methods = (b"GET", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"HEAD", b"GAMT")
            changed = replace(right, method=methods[rng.integers(len(methods))])
        case "path":
            paths = (
                "/../../etc/passwd",
                "/%2e%2e/%00",
                "//claim",
                "/claim/",
                "/CLAIM",
                "/docs",
                long,
            )
            changed = replace(right, path=paths[rng.integers(len(paths))])
        case "length":
            lengths = (
                b"-1",
                b"abc",
                b"1e3",
                b"0x10",
                b"9" * 30,
                b"1, 2",
                b"5\r\nContent-Length: 6",
            )
            changed = replace(right, length=lengths[rng.integers(len(lengths))])
        case "chunks":
            bodies = (b"xyz\r\nabc\r\n0\r\n\r\n", b"-5\r\nhello\r\n0\r\n\r\n", b"f" * 40 + b"\r\n")
            headers = (*JSON_HEADERS, b"Transfer-Encoding: chunked")
            body = bodies[rng.integers(len(bodies))]
            changed = replace(right, body=body, headers=headers, length=b"")
        case "token":
            tokens = (b"", b"x", b"0" * 32, b"\xff" * 8, b"../..", b"a" * 5000)
            header = b"X-Lease-Token: " + tokens[rng.integers(len(tokens))]
            changed = replace(right, headers=(header,))
        case "header":
            odd = (b"no colon", b"X\0Y: 1", b": empty", b"X : 1", b"\xff: 1")
            changed = replace(right, headers=(*JSON_HEADERS, odd[rng.integers(len(odd))]))
        case "long header":  # the server may take it, if it comes at once
            header = b"X: " + b"a" * 100_000
            changed = replace(right, headers=(*JSON_HEADERS, header), may_pass=True)
        case _:
            begins = (b"POST / HTTP/9.9\r\nX:", b"\x16\x03\x01\x02\x00\x01", b"", b"PRI *")
            changed = replace(right, method=begins[rng.integers(len(begins))])
    return replace(changed, name=f"HTTP: {name}")


# The legacy protocol


def draw_image() -> npt.NDArray[np.int16]:
    """Returns the image: a bright block."""
    image = np.zeros(SHAPE, np.int16)
    image[1:5, 3:10, 4:15] = 200
    return image


def npy_of(array: npt.NDArray[Any]) -> bytes:
    """Returns an array as an npy file."""
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def form_of(file: bytes, *fields: tuple[bytes, bytes]) -> bytes:
    """Returns a form of a file and some fields."""
    parts = [
        b'Content-Disposition: form-data; name="file"; filename="volume.npy.gz"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + file,
        *(
            b'Content-Disposition: form-data; name="' + name + b'"\r\n\r\n' + value
            for name, value in fields
        ),
    ]
    opening = b"--" + BOUNDARY
    return b"".join(opening + b"\r\n" + part + b"\r\n" for part in parts) + opening + b"--\r\n"


def npy_header(text: str, version: bytes = b"\x01\x00") -> bytes:
    """Returns the begin of an npy file that declares something."""
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode()


def spoil_form(rng: np.random.Generator) -> Attack:
    """Returns a request of the legacy protocol that isn't right, or perhaps."""
    paths = (
        "/upload_image",
        "/upload_segment",
        "/add_scribble_interaction",
        "/add_lasso_interaction",
    )
    path = paths[rng.integers(len(paths))]
    is_image = path == "/upload_image"
    right = npy_of(draw_image() if is_image else np.ones(SHAPE, np.uint8))

    def form(npy: bytes) -> bytearray:
        file = npy if is_image else gzip.compress(npy, 1)
        return bytearray(form_of(file, (b"positive_click", b"True")))

    headers = FORM
    body = form(right)
    name = str(
        rng.choice(
            (
                "no form",
                "boundary",
                "cut",
                "no file",
                "shape",
                "dtype",
                "header",
                "cut npy",
                "more npy",
                "bomb",
                "noise",
                "parts",
                "flips",
                "JSON",
            )
        )
    )
    match name:
        case "no form":
            headers = (b"Content-Type: multipart/form-data",)
        case "boundary":
            headers = (
                b"Content-Type: multipart/form-data; boundary=" + rng.bytes(9).hex().encode(),
            )
        case "cut":
            del body[int(rng.integers(len(right) // 8)) :]
        case "no file":
            body = bytearray(form_of(b"", (b"positive_click", b"True")))
        case "shape":
            shapes = (
                "(6, 14)",
                "(6, 14, 19, 1)",
                f"({2**40}, {2**40}, 9)",
                "(-6, 14, 19)",
                "()",
                "(0, 14, 19)",
                f"({2**20}, {2**20}, 1)",
                f"({10**60}, 1, 1)",
                "(True, 14, 19)",
            )
            shape = shapes[rng.integers(len(shapes))]
            declared = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}}}\n"
            body = form(npy_header(declared) + bytes(1596))
        case "dtype":
            kinds = (
                np.array([[[{}]]], object),
                np.ones(SHAPE, "M8[s]"),
                np.ones(SHAPE, "S3"),
                np.ones(SHAPE, [("a", "u1")]),
                np.ones(SHAPE, complex),
            )
            body = form(npy_of(kinds[rng.integers(len(kinds))]))
        case "header":
            texts = (
                "(" * 9000,
                "{" * 200,
                "{}",
                "1" * 60_000,
                "__import__('os')",
                "{'descr': 'O'}",
            )
            versions = (b"\x01\x00", b"\x02\x00", b"\x03\x00", b"\x09\x09")
            text, version = texts[rng.integers(len(texts))], versions[rng.integers(len(versions))]
            body = form(npy_header(text, version) + bytes(1596))
        case "cut npy":
            body = form(right[: int(rng.integers(len(right)))])
        case "more npy":
            body = form(right + rng.bytes(int(rng.integers(1, 1000))))
        case "bomb":  # goes on for 64 MiB after what it declares
            body = form(right + bytes(2**26))
        case "noise":
            body = bytearray(rng.bytes(int(rng.integers(0, 2000))))
        case "parts":
            fields = [(f"f{n}".encode(), b"") for n in range(500)]
            body = bytearray(form_of(b"", *fields))
        case "flips":
            flip_bits(body, rng)
        case "JSON":
            point = b'{"voxel_coord": ' + VALUES[rng.integers(len(VALUES))] + b"}"
            return Attack("form: JSON", "/add_point_interaction", point, JSON_HEADERS[1:])
    return Attack(f"form: {name}", path, bytes(body), headers, may_pass=name == "flips")

#!/usr/bin/env python3
"""Writes the malformed GGUF files of this folder and cases.txt, one line per file: name, TAB, what the error must say.

    python3 tests/cases/gguf-bad/make.py

tests/gguf_check.cpp opens each of them (under a limit of 256 MiB of address space) and expects an error that contains
the text. Each file differs from a good one in one place. Needs only the Python standard library.
"""
import pathlib
import struct

HERE = pathlib.Path(__file__).resolve().parent
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
MAX64 = (1 << 64) - 1


def u32(v):
    return struct.pack("<I", v)


def u64(v):
    return struct.pack("<Q", v)


def text(s, length=None):
    b = s if isinstance(s, bytes) else s.encode()
    return u64(len(b) if length is None else length) + b


def kv(key, type_, value):
    return text(key) + u32(type_) + value


def strings(values, count=None):
    return u32(STRING) + u64(len(values) if count is None else count) + b"".join(text(v) for v in values)


def tensor(name="x.weight", dims=(4, 2), type_=0, offset=0, n_dims=None, name_length=None):
    return (text(name, name_length) + u32(len(dims) if n_dims is None else n_dims) + b"".join(map(u64, dims))
            + u32(type_) + u64(offset))


ARCH = kv("general.architecture", STRING, text("qwen2"))


def gguf(kvs=(ARCH,), tensors=(), data=b"", magic=b"GGUF", version=3, n_kv=None, n_tensors=None, align=32):
    head = (magic + u32(version) + u64(len(tensors) if n_tensors is None else n_tensors)
            + u64(len(kvs) if n_kv is None else n_kv) + b"".join(kvs) + b"".join(tensors))
    return head + bytes(-len(head) % align) + data


def with_kv(key, type_, value):
    return gguf(kvs=[ARCH, kv(key, type_, value)])


DATA = bytes(32)
GOOD = gguf(kvs=[ARCH, kv("a.list", ARRAY, strings(["x", "yz"]))], tensors=[tensor()], data=DATA)
CASES = {
    # the header
    "empty": (b"", "magic"),
    "three-bytes": (b"GGU", "magic"),
    "magic-only": (b"GGUF", "version"),
    "wrong-magic": (gguf(magic=b"GGML"), "magic"),
    "zip": (b"PK\x03\x04" + bytes(60), "magic"),
    "version-0": (gguf(version=0), "version: GGUF version 0 is unknown"),
    "version-1": (gguf(version=1), "version: GGUF version 1 is not supported"),
    "version-4": (gguf(version=4), "version: GGUF version 4 is unknown"),
    "big-endian": (gguf(version=3 << 24), "version: this is a big-endian"),
    "no-counts": (b"GGUF" + u32(3), "tensor count"),
    "no-metadata-count": (b"GGUF" + u32(3) + u64(0), "metadata count"),
    "tensor-count-max": (gguf(n_tensors=MAX64), "tensor count"),
    "tensor-count-2-31": (gguf(n_tensors=1 << 31), "tensor count"),
    "tensor-count-one-more": (gguf(n_tensors=2, tensors=[tensor()], data=DATA), "tensor entry 1"),
    "metadata-count-max": (gguf(n_kv=MAX64), "metadata count"),
    "metadata-count-2-32": (gguf(n_kv=1 << 32), "metadata count"),
    "metadata-count-one-more": (gguf(n_kv=2), "metadata entry 1"),
    # metadata
    "key-length-max": (gguf(kvs=[u64(MAX64) + b"key" + u32(U8) + b"\0"]), "metadata entry 0 (key): length"),
    "key-length-past-end": (gguf(kvs=[u64(500) + b"key" + u32(U8) + b"\0"]), "metadata entry 0 (key): length 500"),
    "key-too-long": (gguf(kvs=[kv("k" * 70000, U8, b"\0")]), "metadata entry 0 (key): length 70000 exceeds"),
    "key-empty": (gguf(kvs=[kv("", U8, b"\0") + bytes(8)]), "metadata entry 0: the key is empty"),
    "key-not-utf8": (gguf(kvs=[kv(b"a\xff\xfeb", U8, b"\0")]), "is not valid UTF-8"),
    "key-zero-byte": (gguf(kvs=[kv(b"a\0b", U8, b"\0")]), "contains a zero byte"),
    "key-twice": (gguf(kvs=[ARCH, ARCH]), "key 'general.architecture': duplicate"),
    "value-type-13": (with_kv("a.b", 13, bytes(8)), "key 'a.b': unknown value type 13"),
    "value-type-max": (with_kv("a.b", 0xFFFFFFFF, bytes(8)), "key 'a.b': unknown value type 4294967295"),
    "value-cut": (gguf(kvs=[kv("a.b", U64, b"\1\2\3")], align=1), "key 'a.b': the file ends here"),
    "bool-2": (with_kv("a.b", BOOL, b"\2"), "key 'a.b': a bool must be 0 or 1"),
    "bool-array-7": (with_kv("a.b", ARRAY, u32(BOOL) + u64(2) + b"\1\7"), "key 'a.b': a bool must be 0 or 1"),
    "string-length-max": (with_kv("a.b", STRING, u64(MAX64) + b"text"), "key 'a.b': length 18446744073709551615"),
    "string-length-2-63": (with_kv("a.b", STRING, u64(1 << 63) + b"text"), "key 'a.b': length 9223372036854775808"),
    "string-length-2-32": (with_kv("a.b", STRING, u64(1 << 32) + b"text"), "key 'a.b': length 4294967296"),
    "array-type-unknown": (with_kv("a.b", ARRAY, u32(77) + u64(1) + bytes(8)), "unknown array element type 77"),
    "array-of-arrays": (with_kv("a.b", ARRAY, u32(ARRAY) + u64(1) + u32(U8) + u64(1) + b"\0"), "arrays of arrays"),
    "array-length-max": (with_kv("a.b", ARRAY, u32(U64) + u64(MAX64) + bytes(8)), "key 'a.b': array length"),
    "array-length-2-61": (with_kv("a.b", ARRAY, u32(U64) + u64(1 << 61) + bytes(8)), "key 'a.b': array length"),
    "array-length-2-31": (with_kv("a.b", ARRAY, u32(I32) + u64(1 << 31) + bytes(8)), "key 'a.b': array length"),
    "strings-length-2-60": (with_kv("a.b", ARRAY, strings(["x"], 1 << 60)), "key 'a.b': array length"),
    "strings-one-too-many": (gguf(kvs=[kv("a.b", ARRAY, strings(["long enough for one more"], 3))], align=1),
                             "key 'a.b'[1]"),
    "strings-element-past-end": (with_kv("a.b", ARRAY, u32(STRING) + u64(2) + text("x") + u64(1 << 40)),
                                 "key 'a.b'[1]"),
    # alignment
    "alignment-0": (with_kv("general.alignment", U32, u32(0)), "key 'general.alignment': 0"),
    "alignment-33": (with_kv("general.alignment", U32, u32(33)), "key 'general.alignment': 33"),
    "alignment-4": (with_kv("general.alignment", U32, u32(4)), "key 'general.alignment': 4"),
    "alignment-2-31": (with_kv("general.alignment", U32, u32(1 << 31)), "key 'general.alignment': 2147483648"),
    "alignment-u64": (with_kv("general.alignment", U64, u64(32)), "key 'general.alignment': must be a u32"),
    "alignment-string": (with_kv("general.alignment", STRING, text("32")), "key 'general.alignment': must be a u32"),
    # the tensor table
    "tensor-name-empty": (gguf(tensors=[tensor("")], data=DATA), "tensor entry 0: the name is empty"),
    "tensor-name-long": (gguf(tensors=[tensor("n" * 65)], data=DATA), "tensor entry 0 (name): length 65"),
    "tensor-name-max": (gguf(tensors=[tensor("n", name_length=MAX64)], data=DATA), "tensor entry 0 (name): length"),
    "tensor-name-not-utf8": (gguf(tensors=[tensor(b"\xc0\x80")], data=DATA), "is not valid UTF-8"),
    "tensor-name-zero-byte": (gguf(tensors=[tensor(b"a\0b")], data=DATA), "tensor entry 0: the name"),
    "tensor-twice": (gguf(tensors=[tensor(), tensor(offset=32)], data=DATA * 2), "tensor 'x.weight': duplicate"),
    "dims-0": (gguf(tensors=[tensor(dims=())], data=DATA), "tensor 'x.weight': dimension count 0"),
    "dims-5": (gguf(tensors=[tensor(dims=(1,) * 5)], data=DATA), "tensor 'x.weight': dimension count 5"),
    "dims-max": (gguf(tensors=[tensor(n_dims=0xFFFFFFFF)], data=DATA), "dimension count 4294967295"),
    "dim-is-0": (gguf(tensors=[tensor(dims=(4, 0))], data=DATA), "tensor 'x.weight': dimension 1 is 0"),
    "dim-max": (gguf(tensors=[tensor(dims=(MAX64,))], data=DATA), "tensor 'x.weight': dimension 0"),
    "dims-wrap-to-0": (gguf(tensors=[tensor(dims=(1 << 32, 1 << 32))], data=DATA), "tensor 'x.weight': dimension 1"),
    "dims-wrap-to-8": (gguf(tensors=[tensor(dims=((1 << 63) + 4, 2))], data=DATA), "tensor 'x.weight': dimension 0"),
    "dims-2-62-f64": (gguf(tensors=[tensor(dims=(1 << 62,), type_=28)], data=DATA), "its size in bytes overflows"),
    "type-4-removed": (gguf(tensors=[tensor(type_=4)], data=DATA), "tensor 'x.weight': unknown tensor type 4"),
    "type-31-removed": (gguf(tensors=[tensor(type_=31)], data=DATA), "tensor 'x.weight': unknown tensor type 31"),
    "type-999": (gguf(tensors=[tensor(type_=999)], data=DATA), "tensor 'x.weight': unknown tensor type 999"),
    "type-max": (gguf(tensors=[tensor(type_=0xFFFFFFFF)], data=DATA), "unknown tensor type 4294967295"),
    "row-not-whole-q8_0": (gguf(tensors=[tensor(dims=(33, 1), type_=8)], data=bytes(96)), "the block size of Q8_0"),
    "row-not-whole-q4_k": (gguf(tensors=[tensor(dims=(128, 2), type_=12)], data=bytes(160)), "block size of Q4_K"),
    "row-not-whole-iq2": (gguf(tensors=[tensor(dims=(64, 4), type_=16)], data=bytes(160)), "block size of IQ2_XXS"),
    # tensor data
    "offset-odd": (gguf(tensors=[tensor(offset=8)], data=bytes(64)), "offset 8 is not a multiple of the alignment 32"),
    "offset-past-end": (gguf(tensors=[tensor(offset=1 << 20)], data=DATA), "the file is cut short"),
    "offset-wraps": (gguf(tensors=[tensor(offset=MAX64 - 31)], data=DATA), "tensor 'x.weight': offset"),
    "offset-2-63": (gguf(tensors=[tensor(offset=1 << 63)], data=DATA), "tensor 'x.weight': its data"),
    "data-missing": (gguf(tensors=[tensor()]), "tensor 'x.weight': its data"),
    "data-one-byte-short": (gguf(tensors=[tensor()], data=bytes(31)), "the file is cut short"),
    "data-short-q6_k": (gguf(tensors=[tensor(dims=(256, 2), type_=14)], data=bytes(416)), "420 bytes"),
    "overlap-same": (gguf(tensors=[tensor("a"), tensor("b")], data=DATA), "lies inside the data of tensor"),
    "overlap-part": (gguf(tensors=[tensor("a", (16,)), tensor("b", (4,), offset=32)], data=bytes(64)),
                     "tensor 'b': offset 32 lies inside the data of tensor 'a'"),
    "huge-tensor": (gguf(tensors=[tensor(dims=(1 << 40, 1 << 10), type_=0)], data=DATA), "the file is cut short"),
    # split files
    "split-lone-part": (with_kv("split.count", U16, struct.pack("<H", 3)), "key 'split.count'"),
    "split-count-string": (with_kv("split.count", STRING, text("3")), "key 'split.count': must be a whole number"),
    "split-count-negative": (with_kv("split.count", I32, struct.pack("<i", -3)), "key 'split.count': must be"),
    "split-count-huge": (with_kv("split.count", U64, u64(MAX64)), "key 'split.count'"),
}


def main():
    for old in HERE.glob("*.gguf"):
        old.unlink()
    (HERE / "good.gguf").write_bytes(GOOD)
    lines = []
    for name, (data, expected) in CASES.items():
        (HERE / f"{name}.gguf").write_bytes(data)
        lines.append(f"{name}.gguf\t{expected}\n")
    (HERE / "cases.txt").write_text("".join(lines))
    # The good file and a few short bad ones are where the fuzzer starts from.
    corpus = HERE.parents[1] / "fuzz" / "corpus" / "gguf"
    corpus.mkdir(parents=True, exist_ok=True)
    (corpus / "good").write_bytes(GOOD)
    every_type = gguf(kvs=[ARCH] + [
        kv("a.u8", U8, b"\1"), kv("a.i8", I8, b"\xff"), kv("a.u16", U16, b"\1\2"), kv("a.i16", I16, b"\1\xff"),
        kv("a.u32", U32, u32(7)), kv("a.i32", I32, u32(7)), kv("a.f32", F32, u32(0x3F800000)), kv("a.b", BOOL, b"\1"),
        kv("a.u64", U64, u64(7)), kv("a.i64", I64, u64(MAX64)), kv("a.f64", F64, u64(1)),
        kv("a.u8s", ARRAY, u32(U8) + u64(3) + b"abc"), kv("a.f32s", ARRAY, u32(F32) + u64(1) + u32(0)),
        kv("general.alignment", U32, u32(64))], tensors=[tensor("q", (32, 2), 8), tensor("k", (256,), 12, 128)],
        data=bytes(272), align=64)
    (corpus / "every-type").write_bytes(every_type)
    for name in ("array-length-max", "dims-wrap-to-8", "overlap-part", "split-count-huge", "strings-one-too-many"):
        (corpus / name).write_bytes(CASES[name][0])


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/: texts and the token ids that the `tokenizers` library gives for them.

    pip install tokenizers && tools/fetch-test-models && tools/make-golden/tokenizer.py [--tiny ponder-tiny.gguf]

Independent of our code: vocabulary and merges are read from each GGUF file by the few lines below, and the tokenizer is
put together from the library's own parts as the model's published tokenizer.json does (normaliser, pre-tokenizer, flags).

texts.json     the texts, once
NAME.ids       for each text two lists of ids: the text as template text (control tokens are recognised), and as user
               text (only user-defined tokens are); the second is empty if it is the same. A list is its length and its
               ids as LEB128 varints; the length is one more than the number of ids, 0 meaning "the same".
The texts are made from a fixed seed, so that a second run gives the same files.
"""
import argparse, json, os, random, struct, sys
from tokenizers import AddedToken, Regex, Tokenizer, normalizers, pre_tokenizers
from tokenizers.models import BPE

HERE = os.path.dirname(os.path.abspath(__file__))
OUT = os.path.join(HERE, "..", "..", "tests", "golden", "tokenizer")
CACHE = os.environ.get("PONDER_MODEL_CACHE", os.path.expanduser("~/.cache/ponder-tests"))

# ---- GGUF metadata ---------------------------------------------------------------------------------------------------
NUMBERS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}


def read_metadata(path):
    """{key: (type, element type, value)}; tensors are not looked at, so a cut file will do."""
    data = open(path, "rb").read(64 << 20)
    at = 0

    def take(fmt):
        nonlocal at
        value = struct.unpack_from("<" + fmt, data, at)
        at += struct.calcsize("<" + fmt)
        return value[0] if len(value) == 1 else list(value)

    def string():
        nonlocal at
        n = take("Q")
        at += n
        return data[at - n:at]

    def value(kind):
        if kind == 8:
            return None, string()
        if kind == 9:
            element, n = take("I"), take("Q")
            if element == 8:
                return element, [string() for _ in range(n)]
            v = take(f"{n}{NUMBERS[element]}") if n else []
            return element, v if isinstance(v, list) else [v]
        return None, take(NUMBERS[kind])

    magic, version, n_tensors, n_kv = take("I"), take("I"), take("Q"), take("Q")
    assert magic == 0x46554747 and version >= 2, path
    result = {}
    for _ in range(n_kv):
        key = string().decode()
        kind = take("I")
        element, v = value(kind)
        result[key] = (kind, element, v)
    return result


def write_vocabulary(metadata, path):
    """A GGUF file with nothing but tokenizer.* keys."""
    def string(s):
        return struct.pack("<Q", len(s)) + s

    kept = {k: v for k, v in metadata.items() if k.startswith("tokenizer.") or k == "general.architecture"}
    out = struct.pack("<IIQQ", 0x46554747, 3, 0, len(kept))
    for key, (kind, element, v) in kept.items():
        out += string(key.encode()) + struct.pack("<I", kind)
        if kind == 8:
            out += string(v)
        elif kind == 9:
            out += struct.pack("<IQ", element, len(v))
            out += b"".join(map(string, v)) if element == 8 else struct.pack(f"<{len(v)}{NUMBERS[element]}", *v)
        else:
            out += struct.pack("<" + NUMBERS[kind], v)
    out += b"\0" * (-len(out) % 32)
    open(path, "wb").write(out)


# ---- The families, as their tokenizer.json files have them -------------------------------------------------------------
CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA3 = QWEN2.replace(r"|\p{N}|", r"|\p{N}{1,3}|")
QWEN35 = CONTRACTIONS + (r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+"
                         r"|\s+(?!\S)|\s+")


def split(pattern):
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def byte_level(use_regex):
    return pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=use_regex)


def digits():
    return pre_tokenizers.Digits(individual_digits=True)


def sequence(*parts):
    return pre_tokenizers.Sequence(list(parts))


# deepseek-llm-7b-base spells out its letters; given as code points, because some look alike or normalise to one another.
DEEPSEEK_LETTERS = (
    "41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376-377 37b-37d 37f 386 388-38a 38c 38e-3a1 "
    "3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a "
    "1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4 "
    "1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128 "
    "212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183-2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2-2cf3 a640-a66d "
    "a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f "
    "104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943")


def letter_class():
    return "".join("-".join(chr(int(c, 16)) for c in r.split("-")) for r in DEEPSEEK_LETTERS.split())


CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"
FAMILIES = {  # name: (normaliser, pre-tokenizer, ignore_merges)
    "qwen2": (normalizers.NFC(), lambda: sequence(split(QWEN2), byte_level(False)), False),
    "qwen35": (normalizers.NFC(), lambda: sequence(split(QWEN35), byte_level(False)), False),
    "llama-bpe": (None, lambda: sequence(split(LLAMA3), byte_level(False)), True),
    "smollm": (None, lambda: sequence(digits(), byte_level(True)), False),
    "gpt-2": (None, lambda: byte_level(True), False),
    "deepseek-coder": (None, lambda: sequence(split(r"[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"), split(CJK),
                                              digits(), byte_level(False)), False),
    "deepseek-llm": (None, lambda: sequence(
        split(r"[\r\n]"), split(r"\s?[" + letter_class() + "]+"),
        split("\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+"), split(r"\s+$"), split(CJK), digits(),
        byte_level(False)), False),
}
FAMILIES["deepseek-r1-qwen"] = FAMILIES["qwen2"]  # the distill's own tokenizer.json: same pattern, NFC too

VOCABULARIES = [  # name of the golden file, file in the cache
    ("qwen2", "qwen-0.5b.gguf"),
    ("deepseek-r1-qwen", "r1-7b-head.gguf"),
    ("smollm", "smollm2.gguf"),
    ("llama-bpe", "llama.cpp-models/ggml-vocab-llama-bpe.gguf"),
    ("gpt-2", "llama.cpp-models/ggml-vocab-gpt-2.gguf"),
    ("deepseek-llm", "llama.cpp-models/ggml-vocab-deepseek-llm.gguf"),
    ("deepseek-coder", "llama.cpp-models/ggml-vocab-deepseek-coder.gguf"),
    ("qwen35", "llama.cpp-models/ggml-vocab-qwen35.gguf"),
]


def build(metadata, with_control):
    value = lambda key: metadata["tokenizer.ggml." + key][2]
    tokens = [t.decode("utf-8", "replace") for t in value("tokens")]
    merges = [tuple(m.decode().split(" ")) for m in value("merges")]
    kinds = value("token_type")
    normaliser, pre_tokenizer, ignore_merges = FAMILIES[value("pre").decode()]
    vocabulary = {}
    for i, t in enumerate(tokens):
        vocabulary.setdefault(t, i)
    tokenizer = Tokenizer(BPE(vocabulary, merges, ignore_merges=ignore_merges))
    if normaliser is not None:
        tokenizer.normalizer = normaliser
    tokenizer.pre_tokenizer = pre_tokenizer()
    added = []
    for i, (t, kind) in enumerate(zip(tokens, kinds)):
        if t == f"[PAD{i}]":
            continue  # made by the GGUF converter; tokenizer.json has no such token
        if kind == 4 or (kind == 3 and with_control):
            added.append(AddedToken(t, normalized=False, special=False))
    tokenizer.add_tokens(added)
    return tokenizer


# ---- The texts ---------------------------------------------------------------------------------------------------------
WORDS = {
    "en": "the quick brown fox jumps over a lazy dog because reasoning takes patience and arithmetic rewards care "
          "therefore nevertheless internationalisation unbelievable Supercalifragilistic GPU tokenizer Model".split(),
    "de": "Übergrößenträger müßte Straße Häuser Donaudampfschifffahrtsgesellschaft schön".split(),
    "fr": "élève garçon où naïve cœur français Noël déjà-vu aujourd’hui".split(),
    "vi": "tiếng Việt Nguyễn đường phố người không được".split(),
    "ru": "быстрая лиса прыгает через ленивую собаку Ёлка".split(),
    "el": "γρήγορη αλεπού Ἀθῆναι ΐ φιλοσοφία".split(),
    "zh": "我们 思考 这个 问题 人工智能 的 推理 模型 中华人民共和国 魑魅魍魉 一二三".split(),
    "ja": "日本語 ひらがな カタカナ が ぎ ﾊﾝｶｸ 東京都 ありがとう".split(),
    "ko": "한국어 토크나이저 안녕하세요 각 ㄱㄴㄷ 한글".split(),
    "ar": "السلام عليكم مُحَمَّد العربية ٠١٢٣ لا إله".split(),
    "he": "שלום עולם שָׁלוֹם עברית".split(),
    "th": "ภาษาไทย สวัสดี น้ำ กำลัง ๑๒๓".split(),
    "hi": "नमस्ते दुनिया क़लम हिन्दी १२३".split(),
    "ta": "தமிழ் கொ நன்றி".split(),
    "km": "កាន់តែពិសេសអាច".split(),
    "am": "ሰላም ልዑል".split(),
    "emoji": "😀 👨‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪🇫🇷 ❤️ 1️⃣ 🫠 🦙🦙 ☃".split(),
    "math": "∑ ∀x∈ℝ ≤ ½ ² ³ Ⅻ ① ∂f/∂x π≈3.14159 10⁻³ ℵ₀ Å Å ﬁ ﬂ µ Ω K".split(),
    "marks": ["e\u0301", "n\u0303o", "a\u0328\u0301", "\u0301", "q\u0307\u0323", "\u1100\u1161\u11a8", "\u0915\u093c",
              "o\u0302\u0301", "\u0344", "\u212b", "\u2126", "\ufb1d", "\u05e9\u05c1", "ก\u0e49\u0e33", "\u0bc6\u0bbe",
              "\u0061\u0315\u0300\u05ae\u0062", "z\u0335\u0321\u0352", "\u1ea1\u0302"],
    "code": ["def f(x):\n\treturn x**2", "for (int i = 0; i < n; ++i) {", "std::vector<std::string_view>", "a->b[i]++;",
             "#include <stdio.h>\n", "x = {'k': [1, 2.5e-3, None]}", "SELECT * FROM t WHERE id=42;", "$HOME/.cache",
             "<div class=\"a-b\">&nbsp;</div>", "\\frac{a}{b}", "0xDEADBEEF", "snake_case_name", "camelCaseName",
             "HTTPServer2", "__init__", "//////", "/* ====== */", "`` `code` ```", "&&||!=<=>>=", "C:\\Users\\x", "@dec"],
    "spaces": [" ", "  ", "   ", "    ", "\t", "\n", "\r\n", "\n\n", "\n\n\n", " \n", "\n ", "\t\t", "        ", "\u00a0",
               "\u3000", "\u2003", "\u200b", "\u2028", "\u0085", "\x0b", "\x0c", "\u180e", "\u1680", "\ufeff", "\r",
               " " * 17, " " * 40, "\t\n \t", "\u2029", "\u202f"],
    "apostrophe": ["I'm", "you'RE", "we'Ve", "they'll", "don't", "'tis", "O'Neil's", "it'S", "'", "''", "’s", "'ſ", "'Sx",
                   "she'd", "'D", "'T", "'LL", "'lL", "rock'n'roll", "'reason", "'very", "'more", "''s"],
    "number": ["0", "7", "12", "123", "1234", "12345", "3.14", "1,000,000", "1e10", "2024-01-31", "10:30", "007", "½",
               "٣٤", "१२", "Ⅷ", "²", "1st", "x2y3", "99.9%", "$1.00", "−1", "1_000", "①②③", "𝟙𝟚", "9" * 30],
    "punctuation": ["!", "!!!", "?!", "...", "…", "—", "--", "“quoted”", "«x»", "(a)", "[b]", "{c}", "。", "，", "、！",
                    "#hash", "^_^", "~", "¿qué?", "=====", "------", "***bold***", "|a|b|", "：；", "‽", "§1", "!=\n", ".\r\n"],
    "odd": ["\x00", "\x01\x02", "\x7f", "\u00ad", "\u200d", "\u2060", "\ufffd", "\ue000", "\U000f0000", "\U0010ffff",
            "\u0378", "\U0001f9ff", "\U00020000", "𝒳", "𠮷", "\u061c", "\u202e", "\ufff9", "𐍈", "𞤀", "ǅ", "ª", "ʰ",
            "ꙮ", "\u1e9e", "ß", "ŉ", "İ", "ı", "\uffff", "ⴰ"],
    "control": ["<think>", "</think>", "<｜User｜>", "<｜Assistant｜>", "<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>",
                "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<tool_call>", "</tool_call>", "<|eot_id|>",
                "<|begin_of_text|>", "<|start_header_id|>", "<|fim_prefix|>", "<|EOT|>", "<repo_name>", "[PAD151665]",
                "<|im_start", "think>", "<think", "<<think>>", "<|im_end|><|im_end|>", "<｜▁pad▁｜>", "<|endoftext",
                "<|im_<|im_end|>end|>", "</think", "< think>", "<THINK>", "<reponame>", "<file_sep>", "ø", "ÿ"],
}
WHOLE = [
    "", "a", " a", "a ", "Hello, world!", "Hello\nWorld\r\n\r\nagain \n \n x",
    "<｜begin▁of▁sentence｜><｜User｜>What is 17 * 23?<｜Assistant｜><think>\n17*20=340, 17*3=51.\n</think>\n\nIt is **391**.<｜end▁of▁sentence｜>",
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
    "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "a" * 300, "ab" * 200, " " * 300, "\n" * 100, "0" * 100, "!" * 200, "é" * 120, "字" * 150, "e\u0301" * 80, "👍🏽" * 40,
    " a" * 100, "a  " * 60, "  \n" * 40, "\t" * 77 + "x", " " * 63 + "\n" + " " * 64 + "y", "Aa" * 90, "'s" * 50, "\r\n" * 50,
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 3, "https://example.com/a/b?c=d&e=%20f#g-h_i.j",
    "aGVsbG8gd29ybGQgdGhpcyBpcyBiYXNlNjQgdGV4dA==", "{\"a\": [1, 2, {\"b\": null}], \"c\": \"\\u00e9\\n\"}",
    "| a | b |\n|---|---|\n| 1 | 2 |\n", "def fib(n):\n    if n < 2:\n        return n\n    return fib(n - 1) + fib(n - 2)\n",
    "#include <vector>\n\nint main() {\n\tstd::vector<int> v{1, 2, 3};\r\n\treturn v.size() > 2 ? 0 : 1;\n}\n",
    "\\begin{align}\n  x &= \\frac{-b \\pm \\sqrt{b^2-4ac}}{2a} \\\\\n\\end{align}",
    "Ünïcödé ÅNGSTRÖM Åström — naïve café, Zürich; “smart” quotes…", "\u0000\u0001\u0002 binary \u001b[31mred\u001b[0m",
]


def texts():
    rng = random.Random(20240731)
    result = list(WHOLE)
    for group in WORDS.values():
        result += [w for w in group if w not in result]
        result.append(" ".join(group))
        result.append("".join(group))
    groups = list(WORDS)
    while len(result) < 760:  # mixtures
        chosen = rng.sample(groups, rng.randint(1, 4))
        parts = []
        for _ in range(rng.randint(2, 12)):
            parts.append(rng.choice(WORDS[rng.choice(chosen)]))
            parts.append(rng.choice(["", " ", " ", " ", "  ", "\n", ", ", ". ", "\t", "'s "]))
        result.append("".join(parts))
    return result


def varint(n):
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7f | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def ids_file(metadata, all_texts):
    full, user = build(metadata, True), build(metadata, False)
    out = b""
    for text in all_texts:
        a = full.encode(text, add_special_tokens=False).ids
        b = user.encode(text, add_special_tokens=False).ids
        out += varint(len(a) + 1) + b"".join(map(varint, a))
        out += varint(0) if a == b else varint(len(b) + 1) + b"".join(map(varint, b))
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", help="ponder-tiny GGUF file: its vocabulary is written beside the goldens")
    args = parser.parse_args()
    os.makedirs(OUT, exist_ok=True)
    all_texts = texts()
    with open(os.path.join(OUT, "texts.json"), "w", encoding="utf-8") as f:
        json.dump(all_texts, f, ensure_ascii=True, indent=0)
        f.write("\n")
    tiny = os.path.join(OUT, "ponder-tiny-vocabulary.gguf")
    if args.tiny:
        write_vocabulary(read_metadata(args.tiny), tiny)
    for name, path in [("ponder-tiny", tiny)] + [(n, os.path.join(CACHE, p)) for n, p in VOCABULARIES]:
        if not os.path.exists(path):
            sys.exit(f"{path} is missing: run tools/fetch-test-models first")
        data = ids_file(read_metadata(path), all_texts)
        open(os.path.join(OUT, name + ".ids"), "wb").write(data)
        print(f"{name}: {len(all_texts)} texts, {len(data)} bytes")


if __name__ == "__main__":
    main()

"""CLIP's tokenizer.

Uses only the `tokenizers` library: importing transformers takes seconds.
"""

import gzip
import html
import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from calotype.checkpoints.bundled import shipped
from calotype.errors import CalotypeError, reason_of

if TYPE_CHECKING:
    import tokenizers

BEGIN, END = "<|startoftext|>", "<|endoftext|>"
_CLIP_SIZE = 49_408  # tokens of CLIP's vocabulary
_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
_ISOLATED = "[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]"  # characters of scripts without spaces


@dataclass(frozen=True, eq=False)
class BpeTokenizer:
    """`encode(text)` -> token ids, without begin and end tokens.

    Texts for CLIP's own vocabulary are cleaned first as in its original tokenizer (Radford et al. 2021): ftfy, which
    also makes full-width characters, curly quotes and ligatures plain, then HTML entities twice.
    """

    inner: "tokenizers.Tokenizer"
    bos: int
    eos: int
    pad: int
    comma: int | None
    is_clip: bool = False  # CLIP's own vocabulary, not one that was trained here

    def encode(self, text: str) -> list[int]:
        if self.is_clip:
            text = clean(text)
        return self.inner.encode(text, add_special_tokens=False).ids


def clean(text: str) -> str:
    """Cleans a text as CLIP's original tokenizer does: `ftfy.fix_text`, then HTML entities twice."""
    if text.isascii() and "&" not in text and text.isprintable():
        return text  # nothing that ftfy changes
    import ftfy

    return html.unescape(html.unescape(ftfy.fix_text(text)))


def tokenizer_in(folder: Path) -> BpeTokenizer:
    """Loads the tokenizer of a diffusers folder: tokenizer.json, or vocab.json and merges.txt.

    Raises:
        CalotypeError: the files are missing or damaged.
    """
    import tokenizers

    try:
        if (folder / "tokenizer.json").is_file():
            inner = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            vocabulary = json.loads((folder / "vocab.json").read_text("utf-8"))
            lines = (folder / "merges.txt").read_text("utf-8").splitlines()
            inner = _build(
                vocabulary, [tuple(line.split()) for line in lines if line and not line.startswith("#version")]
            )
        inner.no_truncation(), inner.no_padding()  # a file may enable both; the caller splits into chunks
        pad_token = _read_config(folder / "tokenizer_config.json").get("pad_token")
        pad = (
            inner.token_to_id(pad_token["content"] if isinstance(pad_token, dict) else pad_token) if pad_token else None
        )
    except OSError as fault:
        raise CalotypeError(
            "{folder} has no tokenizer in it ({reason}); the model is incomplete",
            folder=folder,
            reason=reason_of(fault),
        ) from None
    except Exception as fault:  # noqa: BLE001  tokenizers raises bare Exceptions
        raise CalotypeError(
            "{folder} holds a damaged tokenizer ({fault}); fetch it again", folder=folder, fault=str(fault)[:100]
        ) from None
    tokenizer = _wrap(inner, folder)
    return replace(tokenizer, pad=tokenizer.eos if pad is None else pad)


def _read_config(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def clip_tokenizer(pads_with_end: bool = True) -> BpeTokenizer:
    """CLIP's tokenizer, bundled for single-file checkpoints.

    Args:
        pads_with_end: True for SD 1.x and SDXL's first encoder; OpenCLIP (SD 2.x, SDXL's second) pads with token 0.
    """
    tokenizer = _wrap(_clip(), shipped("clip"))
    return tokenizer if pads_with_end else replace(tokenizer, pad=0)


@cache
def _clip() -> "tokenizers.Tokenizer":
    lines = gzip.decompress(shipped("clip", "merges.txt.gz").read_bytes()).decode().split("\n")
    merges = [tuple(line.split()) for line in lines]
    letters = list(_byte_letters())
    words = [*letters, *(letter + "</w>" for letter in letters), *("".join(pair) for pair in merges), BEGIN, END]
    return _build({word: n for n, word in enumerate(words)}, merges)


_ASCII = frozenset(map(chr, range(ord("!"), ord("~") + 1)))


def _byte_letters() -> list[str]:
    """A printable character for each byte, in the order of GPT-2's table (Radford et al. 2019)."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    return [chr(byte) for byte in plain] + [chr(256 + n) for n in range(256 - len(plain))]


def _build(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> "tokenizers.Tokenizer":
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    inner = Tokenizer(models.BPE(vocabulary, merges, unk_token=END, end_of_word_suffix="</w>"))
    inner.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    inner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_WORDS), "removed", invert=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    inner.add_special_tokens([BEGIN, END])
    return inner


def _wrap(inner: "tokenizers.Tokenizer", where: Path) -> BpeTokenizer:
    begin, end = inner.token_to_id(BEGIN), inner.token_to_id(END)
    if begin is None or end is None:
        raise CalotypeError("{where} holds a tokenizer that is not CLIP's; Calotype supports CLIP's only", where=where)
    comma, is_clip = inner.token_to_id(",</w>"), inner.get_vocab_size() == _CLIP_SIZE
    return BpeTokenizer(inner, begin, end, end, comma, is_clip)


def trained_tokenizer(texts: Iterable[str], size: int) -> BpeTokenizer:
    """Trains byte-pair encoding (Sennrich et al. 2016) as CLIP's, on texts in any language; at most `size` tokens.

    Every byte has a token, within a word and at its end, so that every text can be encoded. Chinese and Japanese
    characters are never merged: a phrase as one token would not generalise to other phrases of the same characters.
    """
    from tokenizers import Regex, pre_tokenizers, trainers

    learner = _build({END: 0}, [])
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(_ISOLATED), "isolated"), learner.pre_tokenizer]
    )
    letters = sorted(_byte_letters())
    learner.train_from_iterator(
        texts,
        trainers.BpeTrainer(
            vocab_size=size,
            initial_alphabet=letters,
            end_of_word_suffix="</w>",
            special_tokens=[],
            min_frequency=2,
            show_progress=False,
        ),
    )
    words = dict.fromkeys([*letters, *(letter + "</w>" for letter in letters)])
    merges = []
    for left, right in json.loads(learner.to_str())["model"]["merges"]:
        if left not in words or right not in words:
            break
        for continuation in _continuations(left, right):
            if left + continuation not in words and len(words) + 2 < size:
                merges.append((left, continuation))
                words[left + continuation] = None
    inner = _build({word: n for n, word in enumerate([*words, BEGIN, END])}, merges)
    return _wrap(inner, Path("the tokenizer"))


def _continuations(left: str, right: str) -> list[str]:
    """Right sides of a merge: characters that were isolated in training are also merged within words."""
    inner = right.removesuffix("</w>")
    is_single_character = inner != right and not set(left + inner) & _ASCII
    return [right, inner] if is_single_character else [right]


def save_tokenizer(tokenizer: BpeTokenizer, folder: Path) -> None:
    """Saves tokenizer.json, vocab.json and merges.txt, as transformers reads them."""
    from tokenizers import processors

    folder.mkdir(parents=True, exist_ok=True)
    ends = processors.RobertaProcessing((END, tokenizer.eos), (BEGIN, tokenizer.bos), False, False)
    tokenizer.inner.post_processor = ends
    tokenizer.inner.save(str(folder / "tokenizer.json"))
    model = json.loads(tokenizer.inner.to_str())["model"]
    merges = "".join(f"{left} {right}\n" for left, right in model["merges"])
    (folder / "merges.txt").write_text("#version: 0.2\n" + merges, "utf-8")
    (folder / "vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False), "utf-8")
    config = {"bos_token": BEGIN, "eos_token": END, "pad_token": END, "unk_token": END}
    config |= {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=2), "utf-8")

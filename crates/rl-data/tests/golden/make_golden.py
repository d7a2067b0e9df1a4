"""Writes the fixtures of this folder from Python `transformers` and `tokenizers`.

    python make_golden.py            # transformers 5.23.0, tokenizers 0.23.3

The templates are read, not written: `smollm2` is the crate's own, which prints what SmolLM2's prints (`chat_templates.py`).
"""

import datetime
import json
import pathlib

import transformers
import transformers.utils.chat_template_utils as templates
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

HERE = pathlib.Path(__file__).parent


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


templates.datetime = FixedDate

CORPUS = [
    "The cards are 4, 7, 8 and 8. Use each card once to make 24.",
    "7 - 8 / 8 = 6 and 6 * 4 = 24, so (7 - 8 / 8) * 4 = 24.",
    "How are you today? I am well, thank you. What is the answer?",
    "The answer is 24.\n\nThe cards were 10, 10, 4 and 4.\n",
    "Größe naïve 東京 🎴 don't we'll\tend",
    "def solve(cards):\n    return sum(cards)\n",
]
TEXTS = CORPUS[:3] + [
    "<|im_start|>user\nHi there<|im_end|>\n",
    " leading and trailing  \n\n",
    "12345 1,024.5",
    "🎴🃏 unseen characters ñ\u0301 e\u0301",
    "",
    "\r\n\tX",
]
# ByteLevel's own pattern splits words; digits are isolated first.
LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def train(specials, vocab_size, normalizer, pre_tokenizer):
    tokenizer = Tokenizer(models.BPE())
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizer
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=[AddedToken(token, special=True) for token in specials],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def smollm_like():
    return train(
        ["<|im_start|>", "<|im_end|>"],
        340,
        None,
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=False, use_regex=True),
            ]
        ),
    )


def llama3_like():
    tokenizer = train(
        ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"],
        340,
        normalizers.NFC(),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(LLAMA3), behavior="isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, trim_offsets=True, use_regex=False),
            ]
        ),
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)]),
        ]
    )
    return tokenizer


def tokenizer_cases(tokenizer):
    cases = []
    for text in TEXTS:
        encoding = tokenizer.encode(text, add_special_tokens=False)
        cases.append(
            {
                "text": text,
                "ids": encoding.ids,
                # Python counts characters, the crate counts bytes.
                "offsets": [[len(text[:i].encode()) for i in pair] for pair in encoding.offsets],
                "decoded": tokenizer.decode(encoding.ids, skip_special_tokens=False),
                "decoded_without_special": tokenizer.decode(encoding.ids, skip_special_tokens=True),
            }
        )
    return cases


def message(role, content):
    return {"role": role, "content": content}


CONVERSATIONS = [
    [message("user", "How are you?")],
    [message("system", "Be brief."), message("user", "Make 24 from 4 7 8 8."), message("assistant", "(7 - 8 / 8) * 4")],
    [
        message("user", "  What is 2 + 2?\n"),
        message("assistant", "4"),
        message("user", "skip"),
        message("assistant", "<think>\nhm \"ü\" </think>\n\nThe answer is 🎴 24.  "),
        message("user", "<tool>x"),
        message("user", "stop"),
    ],
    [message("assistant", "I begin.")],
]
TEMPLATES = {
    "smollm2": (None, "<|im_end|>", "smollm_like"),
    "llama3_like": ("<|begin_of_text|>", "<|eot_id|>", "llama3_like"),
    "features": (None, "</s>", None),
}


def main():
    tokenizers = {"smollm_like": smollm_like(), "llama3_like": llama3_like()}
    cases = {name: tokenizer_cases(tokenizer) for name, tokenizer in tokenizers.items()}
    # The crate must not truncate, whatever the file says.
    tokenizers["llama3_like"].enable_truncation(8)
    for name, tokenizer in tokenizers.items():
        tokenizer.save(str(HERE / f"{name}.json"), pretty=False)
    tokenizers["llama3_like"].no_truncation()

    renders = []
    for name, (bos, eos, tokenizer_name) in TEMPLATES.items():
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizers[tokenizer_name or "smollm_like"], bos_token=bos, eos_token=eos
        )
        folder = HERE.parent.parent / "src" / "chat_templates" if name == "smollm2" else HERE
        source = (folder / f"{name}.jinja").read_text()
        for conversation in CONVERSATIONS:
            for prompt in (False, True):
                case = {"template": name, "messages": conversation, "add_generation_prompt": prompt}
                options = {"chat_template": source, "add_generation_prompt": prompt}
                try:
                    case["text"] = fast.apply_chat_template(conversation, tokenize=False, **options)
                    if tokenizer_name:
                        encoded = fast.apply_chat_template(conversation, tokenize=True, return_dict=True, **options)
                        case["ids"] = encoded["input_ids"]
                except Exception as error:
                    case["error"] = str(error)
                renders.append(case)
    golden = {
        "templates": {
            name: {"bos_token": bos, "eos_token": eos, "tokenizer": tokenizer}
            for name, (bos, eos, tokenizer) in TEMPLATES.items()
        },
        "corpus": CORPUS,
        "tokenizer_cases": cases,
        "renders": renders,
    }
    (HERE / "golden.json").write_text(json.dumps(golden, ensure_ascii=False, indent=1) + "\n")


main()

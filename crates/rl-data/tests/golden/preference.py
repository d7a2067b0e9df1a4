"""Writes `preference.json`: prompts and both responses of preference rows as token ids, from `transformers` and `trl`.

    python preference.py SMOLLM2     # transformers 5.23.0, trl 1.16.0

SMOLLM2 is the folder of SmolLM2-135M-Instruct. The other tokenizers and the templates are this crate's own;
`chat_templates.py` shows that these templates print what the published ones print. A whole conversation is split by
`trl`'s own function. What stands after the last end-of-turn token is cut, as this crate does.
"""

import datetime
import json
import pathlib
import sys

import transformers
import transformers.utils.chat_template_utils as utils
import trl
from trl.data_utils import maybe_extract_prompt

HERE = pathlib.Path(__file__).parent
TEMPLATES = HERE.parent.parent / "src" / "chat_templates"


class FixedDate(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return cls(2024, 7, 26)


utils.datetime = FixedDate


def message(role):
    return lambda content: {"role": role, "content": content}


system, user, assistant = message("system"), message("user"), message("assistant")
SHARED = [system("Be brief."), user("Make 24 from 4 7 8 8."), assistant("(7 - 8 / 8) * 4"), user("Is it 24?")]
ROWS = [
    {"prompt": "How are you?", "chosen": "I am well.", "rejected": "Bad! And you, how are you?"},
    {"prompt": [user("2 + 2?")], "chosen": [assistant("4")], "rejected": [assistant("It is five, or so.")]},
    {"prompt": SHARED, "chosen": [assistant("Yes.")], "rejected": [assistant("No, never.")]},
    {"chosen": SHARED + [assistant("Yes.")], "rejected": SHARED + [assistant("No, never.")]},
    {"prompt": "2 + 2?", "chosen": [user("2 + 2?"), assistant("4")], "rejected": [user("2 + 2?"), assistant("5")]},
    {
        "chosen": SHARED + [assistant("Yes."), user("Sure?"), assistant("Quite sure.")],
        "rejected": SHARED + [assistant("No."), user("Why?"), assistant("I erred.\n\n- one\n- two")],
    },
    {"prompt": "Gr\u00f6\u00dfe \u6771\u4eac \U0001f3b4", "chosen": "\u00ef 24\u3002", "rejected": "e\u0301 \U0001f469\u200d\U0001f4bb x"},
    {"prompt": " spaces \n", "chosen": "x = {\"a\": [1, 2]}", "rejected": "```py\nprint(1)\n```"},
]


def messages(value, role):
    return [{"role": role, "content": value}] if isinstance(value, str) else value


def extracted(row):
    if isinstance(row["chosen"], list) and row["chosen"][0]["role"] != "assistant":
        row = maybe_extract_prompt({side: row[side] for side in ("chosen", "rejected")})
    return {name: messages(row[name], "user" if name == "prompt" else "assistant") for name in ("prompt", "chosen", "rejected")}


def main():
    smollm2 = transformers.AutoTokenizer.from_pretrained(sys.argv[1])
    cases = []
    for name, file, bos, eos in [
        ("chatml", "qwen_small", None, "<|im_end|>"),
        ("smollm2", "smollm_like", None, "<|im_end|>"),
        ("smollm2", None, "<|im_start|>", "<|im_end|>"),
        ("llama3", "llama3_small", "<|begin_of_text|>", "<|eot_id|>"),
        ("qwen2.5", "qwen_small", None, "<|im_end|>"),
    ]:
        if file:
            tokenizer_file = str(HERE / f"{file}.json")
            tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=tokenizer_file, bos_token=bos, eos_token=eos)
            tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text()
        else:
            tokenizer = smollm2
        for index, row in enumerate(ROWS):
            row = extracted(row)
            prompt = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_dict=False)
            case = {"template": name, "tokenizer": file, "row": index, "prompt_ids": prompt}
            for side in ("chosen", "rejected"):
                ids = tokenizer.apply_chat_template(row["prompt"] + row[side], return_dict=False)
                assert ids[: len(prompt)] == prompt
                end = len(ids) - ids[::-1].index(tokenizer.eos_token_id)
                case[f"{side}_ids"] = ids[len(prompt) : end]
            cases.append(case)
    versions = {module.__name__: module.__version__ for module in (transformers, trl)}
    with open(HERE / "preference.json", "w") as out:
        out.write('{"versions": ' + json.dumps(versions) + ',\n"rows": [\n')
        out.write(",\n".join(json.dumps(row) for row in ROWS) + '],\n"cases": [\n')
        out.write(",\n".join(json.dumps(case, separators=(",", ":")) for case in cases) + "]}\n")
    print(len(cases), "cases")


main()

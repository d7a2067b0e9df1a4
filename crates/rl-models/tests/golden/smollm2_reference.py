"""Writes smollm2_reference.json: what transformers computes with the converted SmolLM2-135M-Instruct checkpoint.

    cargo run --release -p rl-examples --example convert -- --gguf SmolLM2-135M-Instruct.Q4_1.gguf --out FOLDER
    python smollm2_reference.py FOLDER

f32 on the CPU, one sequence at a time, no padding, eager attention. `greedy`: per prompt the text, the token ids after
the chat template, and the first 64 greedy tokens (up to and with the end token), with the smallest gap between the best
and the second-best logit along the way: an implementation whose rounding differs by less must agree.
`logits`: for one prompt and its answer, at every position `log_sum_exp` over the whole vocabulary, the eight largest
logits (`top_ids`, `top_logits`, largest first), and the logits of the 24 `fixed_ids`. `text`: the first 512 tokens of
the prose below and the log-probability of each but the first.
"""

import json
import pathlib
import sys

import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

NEW_TOKENS, TEXT_TOKENS = 64, 512
QUESTIONS = [
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 12 + 30? Answer with the number only.",
    "List three primary colours.",
    "Translate 'good morning' into Spanish — only the words, please. 日本",
    "Why does ice float on water?",
    "Give me a recipe for pancakes in four short steps.",
    "Write a Python function that returns the largest of three numbers.",
    "Who wrote Hamlet, and in which century?",
    "Tell me a story about a lighthouse keeper who is afraid of the dark.",
]
TEXT = """\
A harbour town wakes before its harbour does. At four in the morning the bakery opens its back door, and the smell of
bread goes down the hill ahead of the light. The first to follow it is Marta, who repairs engines and has never in her
life eaten breakfast at a table. She buys two rolls, puts one in her coat for later, and walks along the sea wall with
the other, counting boats. There are nineteen in winter and thirty-one in summer; today she counts twenty-two, which
means that spring has come to somebody, if not to the thermometer.

The engine that waits for her belongs to a trawler called Patience. It was built in 1968 and has been taken apart so
often that nobody could say which of its parts have been there from the beginning. "It is like the old question about
the ship," the captain likes to say, "only that this one has to leave on Thursday." Marta does not care for the old
question. A thing is what it does, she thinks, and what this thing does is knock. She puts a long screwdriver against
the block, lays her ear on the handle and listens, as a doctor would. Number three. She knew it before she listened, but
she likes to be fair to the other two.

By seven the valve lies on a cloth beside its spring, and the reason for the knocking is plain: a keeper worn on one
side, 0.4 millimetres, no more than the thickness of a fingernail. Small causes travel far in an engine. The keeper lets
the spring lean, the spring lets the valve turn, the valve strikes where it should rest, and a man two miles out hears
a sound he does not like and comes home without fish. She has a new keeper in her box. She always has; she buys them by
the dozen and writes the date on the bag.

When the tide has turned, three things happen at once. The sun comes over the customs house, the captain comes down the
ladder with coffee, and the engine, after two coughs, runs so quietly that both of them look at it in suspicion. "What
do I owe you?" asks the captain. Marta considers it. She has worked for three hours, and used one part that cost less
than the coffee. "One fish," she says, "of your choice, on Friday." He laughs, because that is what her father used to
ask, and his father used to pay. Then he writes it down all the same: in the log, between the weather and the diesel,
where it will be found by anybody who wants to know what a quiet engine was worth in that town, in that year.

The children come past at eight on their way to school, and the youngest of them stops to ask whether boats sleep. Marta
wipes her hands and gives the matter some thought. They do not sleep, she says, but they wait, and from outside the two
look much the same. The child nods, as if that settled a quarrel at home, and runs after the others with one shoe
undone.
"""
FIXED_IDS = [0, 1, 2, 3, 16, 17, 28, 33, 100, 198, 216, 253, 260, 418, 1000, 2500, 5000, 9999, 15000, 20000, 30000,
             40000, 49000, 49151]


def floats(x):
    """Numbers that read back as the same f32."""
    return [float(f"{v:.9g}") for v in x.tolist()]


@torch.inference_mode()
def main(folder):
    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    end = set(tokenizer.convert_tokens_to_ids(["<|im_end|>"]))
    greedy = []
    for question in QUESTIONS:
        messages = [{"role": "user", "content": question}]
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        prompt = tokenizer(text, add_special_tokens=False)["input_ids"]
        by_generate = model.generate(
            torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False, max_new_tokens=NEW_TOKENS,
        )[0, len(prompt) :].tolist()
        # Again without a cache: one forward pass over all of it.
        best = model(torch.tensor([prompt + by_generate[:-1]]), use_cache=False).logits[0, len(prompt) - 1 :].topk(2)
        response, gap = best.indices[:, 0].tolist(), float((best.values[:, 0] - best.values[:, 1]).min())
        assert by_generate == response and end.isdisjoint(response[:-1]), (by_generate, response)
        greedy.append({
            "messages": messages, "prompt": text, "prompt_ids": prompt, "response_ids": response,
            "response": tokenizer.decode(response), "smallest_gap": gap,
        })
        print(repr(tokenizer.decode(response)), gap)
    ids = greedy[0]["prompt_ids"] + greedy[0]["response_ids"]
    logits = model(torch.tensor([ids]), use_cache=False).logits[0]
    positions = []
    for row in logits:
        top = row.topk(8)
        positions.append({
            "log_sum_exp": float(row.double().logsumexp(0)),
            "top_ids": top.indices.tolist(),
            "top_logits": floats(top.values),
            "fixed_logits": floats(row[FIXED_IDS]),
        })
    text_ids = tokenizer(TEXT, add_special_tokens=False)["input_ids"][:TEXT_TOKENS]
    assert len(text_ids) == TEXT_TOKENS, len(text_ids)
    log_probs = model(torch.tensor([text_ids]), use_cache=False).logits[0, :-1].log_softmax(-1)
    log_probs = log_probs.gather(1, torch.tensor(text_ids[1:])[:, None])[:, 0]
    out = {
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "dtype": "float32",
        "attention": "eager",
        "greedy": greedy,
        "text": {"ids": text_ids, "log_probs": floats(log_probs)},
        "logits": {"ids": ids, "fixed_ids": FIXED_IDS, "positions": positions},
    }
    target = pathlib.Path(__file__).with_name("smollm2_reference.json")
    target.write_text(json.dumps(out, ensure_ascii=False) + "\n")


main(sys.argv[1])

"""Writes preference.json: values and gradients of the preference and reward losses of TRL and OpenRLHF.

    python preference.py OPENRLHF OPENRLHF_0_8     (two unpacked wheels, 0.11.2 and 0.8.5; TRL is in the environment)

Every number comes from the reference's own method. Where a loss sits inside a trainer's step, that step runs with a stub
for the trainer and a stub model that returns given log-probabilities, so that nothing is copied. Objectives are written
as our configurations. Log-probabilities are ragged lists, one per answer; so are the gradients with respect to them.
"""

import dataclasses
import importlib
import json
import sys
import types
from collections import defaultdict
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
import torch.distributed
from accelerate import Accelerator
from trl.experimental.cpo.cpo_trainer import CPOTrainer
from trl.experimental.orpo.orpo_trainer import ORPOTrainer
from trl.trainer.callbacks import SyncRefModelCallback
from trl.trainer.dpo_config import DPOConfig
from trl.trainer.dpo_trainer import DPOTrainer
from trl.trainer.kto_trainer import KTOTrainer
from trl.trainer.reward_trainer import RewardTrainer

PAIRS = 4
random = np.random.default_rng(20260401)
cases = []


def tensor(values, dtype=torch.float64, grad=False):
    return torch.tensor(np.asarray(values), dtype=dtype, requires_grad=grad)


def short(values):
    """Few digits, for a small file: a multiple of a power of two is exact in f32 and f64."""
    return np.round(np.asarray(values) * 1024) / 1024


def trainer(**fields):
    """What a trainer's loss method reads of its trainer: one process, evaluation mode."""
    same = lambda x: x
    model = torch.nn.Module().eval()
    model.is_gradient_checkpointing = False
    common = {
        "accelerator": SimpleNamespace(device="cpu", gather=same, gather_for_metrics=same), "model": model,
        "_total_train_tokens": 0, "_metrics": defaultdict(lambda: defaultdict(list)), "aux_loss_enabled": False,
        "precompute_ref_logps": False, "is_encoder_decoder": False, "padding_value": 0, "pad_token_id": 0,
    }
    return SimpleNamespace(**{**common, **fields})


def record(family, row, reference, release, loss, **fields):
    cases.append({"family": family, "row": row, "reference": reference, "version": release, "loss": float(loss), **fields})


class Answers:
    """Answers of random lengths after a prompt of two tokens; log-probabilities of every predicted token."""

    def __init__(self, count, dtype=torch.float64):
        self.lengths = random.integers(1, 7, size=count)
        width = 2 + int(self.lengths.max())
        self.mask = torch.zeros(count, width)
        for row, length in enumerate(self.lengths):
            self.mask[row, 2 : 2 + length] = 1
        shape = (count, width - 1)
        policy = short(-random.gamma(2.0, 0.6, size=shape) - 0.02)
        self.log_probs = tensor(policy, dtype, grad=True)
        self.reference = tensor(short(policy + random.normal(size=shape) * 0.4), dtype)
        self.log_sum_squares = tensor(short(-random.gamma(2.0, 0.3, size=shape)), dtype)
        self.ids = torch.zeros(count, width, dtype=torch.long)

    def ragged(self, values, start=1):
        """Rows of the response tokens, or with start 0 of the prompt's predicted token too."""
        values = torch.zeros_like(self.log_probs) if values is None else values
        return [row[start : 1 + length].tolist() for row, length in zip(values.detach().double(), self.lengths)]

    def sides(self, values, start=1):
        rows = self.ragged(values, start)
        return rows[: len(rows) // 2], rows[len(rows) // 2 :]


def pair_case(row, reference, release, objective, loss, answers, start=1, **fields):
    """One step over pairs; the first half of the answers is chosen."""
    loss.backward()
    names = {"log_probs": answers.log_probs, "gradient": answers.log_probs.grad}
    if "TRL CPO" not in reference and "TRL ORPO" not in reference:
        names["ref_log_probs"] = answers.reference
    if objective.get("wpo"):
        names["log_sum_squares"] = answers.log_sum_squares
    inputs = {name: dict(zip(("chosen", "rejected"), answers.sides(value, start))) for name, value in names.items()}
    record("pair", row, reference, release, loss.item(), objective=objective, prompt_tokens=1 - start, **inputs, **fields)


def bare(loss, **options):
    losses = loss if isinstance(loss, list) else [(loss, 1.0)]
    return {"losses": [{"loss": part, "weight": weight} for part, weight in losses], **options}


def trl_dpo(row, kinds, objective, beta, weights=None, smoothing=0.0, divergence="reverse_kl", alpha=0.5,
            dtype=torch.float64, ld_alpha=None, weighting=False, temperature=0.05):
    answers = Answers(2 * PAIRS, dtype)
    shift = answers.mask[:, 1:]

    def model(log_probs):
        zero = torch.zeros_like(shift)
        return lambda **_: SimpleNamespace(log_probs=log_probs * shift, log_sum_sq_probs=answers.log_sum_squares * shift,
                                           entropy=zero, mean_logits=zero, is_top1=zero.bool(), logits=None)

    stub = trainer(
        beta=beta, loss_types=kinds, loss_weights=weights or [1.0] * len(kinds), ld_alpha=ld_alpha,
        f_divergence_type=divergence, f_alpha_divergence_coef=alpha, label_smoothing=smoothing, use_weighting=weighting,
        args=SimpleNamespace(discopop_tau=temperature, gradient_checkpointing_kwargs=None), ref_model=model(answers.reference),
    )
    inputs = {"input_ids": answers.ids, "attention_mask": torch.ones_like(answers.ids), "completion_mask": answers.mask}
    loss = DPOTrainer._compute_loss(stub, model(answers.log_probs), inputs, False)
    metrics = stub._metrics["eval"]
    # Under LD-DPO both sides of a reward are weighted, as with ours.
    rewards = {name: metrics[f"rewards/{name}"][0] for name in ("chosen", "rejected", "accuracies", "margins")}
    pair_case(row, "TRL DPOTrainer", version("trl"), objective, loss, answers, rewards=rewards)


def trl_dpo_rows():
    for _ in range(3):
        beta = float(random.uniform(0.05, 1.0))
        eps = float(random.uniform(0.01, 0.3))
        scored = {
            "sigmoid": {"beta": beta}, "hinge": {"beta": beta}, "ipo": {"beta": beta, "scale": "mean"},
            "sigmoid_norm": {"beta": beta}, "exo_pair": {"beta": beta, "label_smoothing": eps},
            "robust": {"beta": beta, "label_smoothing": eps}, "discopop": {"beta": beta, "temperature": 0.3},
        }
        plain = {
            "nca_pair": {"beta": beta}, "bco_pair": {"beta": beta}, "sppo_hard": {"beta": beta},
            "apo_zero": {"beta": beta}, "apo_down": {"beta": beta}, "aot": {"beta": beta, "label_smoothing": eps},
            "aot_unpaired": {"beta": beta, "label_smoothing": eps},
        }
        for kind, settings in {**scored, **plain}.items():
            objective = bare({"kind": kind, **settings})
            trl_dpo(kind, [kind], objective, beta, smoothing=eps, temperature=0.3)
        divergences = [("forward_kl", {"kind": "forward_kl"}), ("js_divergence", {"kind": "jensen_shannon"}),
                       ("alpha_divergence", {"kind": "alpha", "alpha": 0.5})]
        for kind, settings in scored.items():
            for name, ours in divergences:
                # TRL knows the alpha divergence in f32 and half precision only.
                dtype = torch.float32 if name == "alpha_divergence" else torch.float64
                objective = bare({"kind": kind, **settings}, f_divergence=ours)
                trl_dpo(f"{kind}, {ours['kind']}", [kind], objective, beta, smoothing=eps, divergence=name, dtype=dtype,
                        temperature=0.3)
        for kind in ("sigmoid", "bco_pair", "ipo"):
            settings = {"kind": kind, **{**scored, **plain}[kind]}
            trl_dpo(f"{kind}, wpo", [kind], bare(settings, wpo=True), beta, weighting=True)
            trl_dpo(f"{kind}, ld_alpha", [kind], bare(settings, ld_alpha=0.3), beta, ld_alpha=0.3)
        nll = {"coef": 0.7, "reduction": {"kind": "token_mean"}}
        rpo = bare({"kind": "sigmoid", "beta": beta}, nll=nll)
        trl_dpo("sigmoid, nll", ["sigmoid", "sft"], rpo, beta, weights=[1.0, 0.7])
        mixed = bare([({"kind": "sigmoid", "beta": beta}, 0.8), ({"kind": "bco_pair", "beta": beta}, 0.2)], nll=nll)
        trl_dpo("sigmoid and bco_pair, nll", ["sigmoid", "bco_pair", "sft"], mixed, beta, weights=[0.8, 0.2, 0.7])


def two_token_logits(log_probs):
    """Logits over two tokens whose first has exactly these log-probabilities, and one more position that predicts nothing."""
    other = torch.log(-torch.expm1(log_probs))
    logits = torch.stack([log_probs, other], dim=-1)
    return torch.cat([logits, torch.zeros_like(logits[:, :1])], dim=1)


def trl_free(row, cls, objective, start=1, **settings):
    """CPO and ORPO: their own forward over a model that gives the logits, sums or means and supervised term included."""
    answers = Answers(2 * PAIRS)
    attention = answers.mask.clone()
    attention[:, :2] = 1
    labels = torch.where(answers.mask.bool(), answers.ids, -100)
    half = {"chosen": slice(0, PAIRS), "rejected": slice(PAIRS, None)}
    batch = {f"{side}_{name}": value[part].clone() for side, part in half.items()
             for name, value in (("input_ids", answers.ids), ("attention_mask", attention.long()), ("labels", labels))}
    stub = trainer(**settings)
    for name in ("concatenated_forward", "cpo_loss" if cls is CPOTrainer else "odds_ratio_loss"):
        setattr(stub, name, types.MethodType(getattr(cls, name), stub))
    stub.concatenated_inputs, stub.get_batch_logps = cls.concatenated_inputs, cls.get_batch_logps
    model = lambda *_, **__: SimpleNamespace(logits=two_token_logits(answers.log_probs))
    loss, metrics = cls.get_batch_loss_metrics(stub, model, batch)
    rewards = {name: metrics[f"rewards/{name}"] for name in ("chosen", "rejected", "accuracies", "margins")}
    pair_case(row, f"TRL {cls.__name__}", version("trl"), objective, loss, answers, start, rewards=rewards)


def trl_free_rows():
    for _ in range(3):
        beta, gamma = float(random.uniform(0.1, 2.0)), float(random.uniform(0.1, 1.0))
        eps = float(random.uniform(0.0, 0.3))
        for alpha in (0.0, 0.25, -0.4):
            kinds = {
                "cpo_sigmoid": ("sigmoid", {"label_smoothing": eps, "alpha": alpha}),
                "cpo_hinge": ("hinge", {"alpha": alpha}), "cpo_ipo": ("ipo", {"scale": "mean", "alpha": alpha}),
                "simpo" if alpha == 0.0 else "alpha_po": (
                    "simpo", {"gamma": gamma, "label_smoothing": eps, **({"alpha": alpha} if alpha else {})}),
            }
            for kind, (theirs, settings) in kinds.items():
                for coef in (0.0, 1.0):
                    options = {"nll": {"coef": coef, "reduction": {"kind": "token_mean"}}} if coef else {}
                    row = kind + (", alpha" if alpha and kind != "alpha_po" else "") + (", nll" if coef else "")
                    trl_free(row, CPOTrainer, bare({"kind": kind, "beta": beta, **settings}, **options), beta=beta,
                             loss_type=theirs, label_smoothing=eps, simpo_gamma=gamma, alpha=alpha, cpo_alpha=coef)
        nll = {"coef": 1.0, "reduction": {"kind": "token_mean"}, "tokens": "prompt_and_response"}
        trl_free("orpo, nll", ORPOTrainer, bare({"kind": "orpo", "beta": beta}, nll=nll), start=0, beta=beta)


def reward_case(row, reference, release, loss, rewards, margins=None, centering=0.0, **fields):
    loss.backward()
    halves = {"rewards": rewards, "gradient": rewards.grad}
    inputs = {name: value.detach().double().flatten().tolist() for name, value in halves.items()}
    record("reward", row, reference, release, loss.item(), centering_coef=centering,
           margins=None if margins is None else margins.tolist(), **inputs, **fields)


def reward_rows(openrlhf):
    for margins, centering in ((False, None), (True, None), (False, 0.01), (True, 0.05)):
        logits = tensor(short(random.normal(size=(16, 1)) * 2), grad=True)
        inputs = {"attention_mask": torch.ones(16, 3)}
        margin = tensor(short(random.uniform(0, 2, size=8))) if margins else None
        if margins:
            inputs["margin"] = margin
        stub = trainer(args=SimpleNamespace(center_rewards_coefficient=centering))
        loss = RewardTrainer.compute_loss(stub, lambda **_: SimpleNamespace(logits=logits), inputs)
        row = "bradley_terry" + (", margins" if margins else "") + (", centering" if centering else "")
        reward_case(row, "TRL RewardTrainer", version("trl"), loss, logits, margin, centering or 0.0,
                    accuracy=stub._metrics["eval"]["accuracy"][0])
    for row, kind, margins in (("bradley_terry", openrlhf.PairWiseLoss, False),
                               ("bradley_terry, margins", openrlhf.PairWiseLoss, True),
                               ("bradley_terry", openrlhf.LogExpLoss, False)):
        rewards = tensor(short(random.normal(size=16) * 2), grad=True)
        margin = tensor(short(random.uniform(0, 2, size=8))) if margins else None
        loss = kind()(rewards[:8], rewards[8:], margin)
        reward_case(row, f"OpenRLHF {kind.__name__}", openrlhf.release, loss, rewards, margin)


def openrlhf_dpo_rows(openrlhf):
    stub = SimpleNamespace(strategy=SimpleNamespace(ring_attn_group=None), tokenizer=SimpleNamespace(pad_token_id=0))
    for name in ("concatenated_inputs", "_get_batch_logps"):
        setattr(stub, name, types.MethodType(getattr(openrlhf.DPOTrainer, name), stub))
    for _ in range(3):
        beta, eps = float(random.uniform(0.05, 1.0)), float(random.uniform(0.05, 0.3))
        nll = {"coef": 0.2, "reduction": {"kind": "seq_mean_token_mean"}}
        for row, objective, settings, coef in (
            ("sigmoid", bare({"kind": "sigmoid", "beta": beta}), {}, 0.0),
            ("conservative_sigmoid", bare({"kind": "conservative_sigmoid", "beta": beta, "label_smoothing": eps}),
             {"label_smoothing": eps}, 0.0),
            ("ipo", bare({"kind": "ipo", "beta": beta, "scale": "sum"}), {"ipo": True}, 0.0),
            ("sigmoid, nll", bare({"kind": "sigmoid", "beta": beta}, nll=nll), {}, 0.2),
        ):
            answers = Answers(2 * PAIRS)
            attention = answers.mask.clone()
            attention[:, :2] = 1

            def forward(log_probs):
                model = lambda *_, **__: (log_probs, {})
                ids = answers.ids
                return openrlhf.DPOTrainer.concatenated_forward(
                    stub, model, ids[:PAIRS], attention[:PAIRS], ids[PAIRS:], attention[PAIRS:], [2] * PAIRS)

            chosen, rejected, _, mean_nll = forward(answers.log_probs)
            ref_chosen, ref_rejected, _, _ = forward(answers.reference)
            loss, good, bad = openrlhf.DPOLoss(beta, **settings)(chosen, rejected, ref_chosen, ref_rejected)
            rewards = {"chosen": good.mean().item(), "rejected": bad.mean().item(),
                       "accuracies": (good > bad).double().mean().item(), "margins": (good - bad).mean().item()}
            pair_case(row, "OpenRLHF DPOLoss", openrlhf.release, objective, loss + coef * mean_nll, answers, rewards=rewards)


def unpaired_case(row, reference, release, objective, loss, log_probs, ref_log_probs, desirable, mismatched=None, **fields):
    loss.backward()
    record("unpaired", row, reference, release, loss.item(), objective=objective, log_probs=log_probs.tolist(),
           ref_log_probs=ref_log_probs.tolist(), desirable=desirable, mismatched=mismatched,
           gradient=log_probs.grad.tolist(), **fields)


def trl_kto_rows():
    for shift in (0.5, -3.0, 0.2):
        for kind in ("kto", "apo_zero_unpaired"):
            beta, good, bad = (float(random.uniform(0.05, 1.0)) for _ in range(3))
            answers, other = Answers(7), Answers(7)
            desirable = [True, False, True, True, False, True, False]
            width = max(answers.ids.shape[1], other.ids.shape[1])
            zero = torch.zeros(7, answers.ids.shape[1] - 1)

            def model(matched, mismatched):
                def call(input_ids, **_):
                    ours = input_ids.eq(1).all()
                    mask = (other if ours else answers).mask[:, 1:]
                    log_probs = (mismatched if ours else matched) * mask
                    return SimpleNamespace(log_probs=log_probs, entropy=zero, mean_logits=zero, is_top1=zero.bool())
                return call

            stub = trainer(beta=beta, loss_type=kind, desirable_weight=good, undesirable_weight=bad,
                           calculate_KL=kind == "kto", args=SimpleNamespace(gradient_checkpointing_kwargs=None),
                           ref_model=model(answers.reference, other.log_probs.detach() - shift))
            stub._compute_kl_logps = types.MethodType(KTOTrainer._compute_kl_logps, stub)
            inputs = {"input_ids": answers.ids, "attention_mask": torch.ones_like(answers.ids),
                      "completion_mask": answers.mask, "KL_input_ids": torch.ones_like(other.ids),
                      "KL_attention_mask": torch.ones_like(other.ids), "KL_completion_mask": other.mask,
                      "label": torch.tensor(desirable)}
            loss = KTOTrainer._compute_loss(stub, model(answers.log_probs, other.log_probs), inputs, False)
            loss.backward()
            total = lambda tokens: (tokens * answers.mask[:, 1:]).sum(-1).tolist()
            # The gradient of a sum is that of its first token.
            gradient = answers.log_probs.grad[:, 1].tolist()
            mismatched = (shift * other.mask[:, 1:]).sum(-1).tolist() if kind == "kto" else None
            objective = {"loss": {"kind": kind, "beta": beta}, "desirable_weight": good, "undesirable_weight": bad}
            record("unpaired", kind, "TRL KTOTrainer", version("trl"), loss.item(), objective=objective,
                   log_probs=total(answers.log_probs), ref_log_probs=total(answers.reference), desirable=desirable,
                   mismatched=mismatched, gradient=gradient, kl=stub._metrics["eval"]["kl"][0])


def openrlhf_kto_rows(openrlhf):
    torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:29544", rank=0, world_size=1)
    for shift in (0.4, -0.4, 0.1):
        beta, good, bad = (float(random.uniform(0.05, 1.0)) for _ in range(3))
        desirable = [True] * 4 + [False] * 4
        log_probs = tensor(-random.gamma(4.0, 3.0, size=8), grad=True)
        reference = tensor(log_probs.detach().numpy() + random.normal(size=8) - shift)
        mismatched = tensor(random.normal(size=8) + shift)
        kto = openrlhf.KTOLoss(beta, good, bad, 1, "cpu")
        loss, _, _, kl = kto(log_probs[:4], log_probs[4:], mismatched, reference[:4], reference[4:], torch.zeros_like(mismatched))
        objective = {"loss": {"kind": "kto", "beta": beta}, "desirable_weight": good, "undesirable_weight": bad}
        unpaired_case("kto", "OpenRLHF KTOLoss", openrlhf.release, objective, loss, log_probs, reference, desirable,
                      mismatched.tolist(), kl=kl.item())
        log_probs = log_probs.detach().requires_grad_()
        loss, _, _ = openrlhf.VanillaKTOLoss(beta)(log_probs[:4], log_probs[4:], reference[:4], reference[4:])
        objective = {"loss": {"kind": "kto_even_sampling", "beta": beta, "baseline_gradient": True}}
        unpaired_case("kto_even_sampling", "OpenRLHF VanillaKTOLoss", openrlhf.release, objective, loss, log_probs,
                      reference, desirable)
    torch.distributed.destroy_process_group()


def update_rows():
    """TR-DPO: the callback on two parameters, with the defaults of its configuration, over some steps."""
    fields = {field.name: field.default for field in dataclasses.fields(DPOConfig)}
    args = SimpleNamespace(ref_model_sync_steps=fields["ref_model_sync_steps"], ref_model_mixup_alpha=fields["ref_model_mixup_alpha"])
    policy, reference = torch.nn.Linear(1, 1, dtype=torch.float64), torch.nn.Linear(1, 1, dtype=torch.float64)
    before = [torch.cat([x.flatten() for x in model.parameters()]).tolist() for model in (policy, reference)]
    Accelerator(cpu=True)  # the callback asks for the state it makes
    callback = SyncRefModelCallback(reference, None)
    after, updated = None, []
    for step in range(1, 1100):
        start = reference.weight.clone()
        callback.on_step_end(args, SimpleNamespace(global_step=step), None, model=policy)
        if not torch.equal(start, reference.weight):
            updated.append(step)
            after = after or torch.cat([x.flatten() for x in reference.parameters()]).tolist()
    record("update", "reference_update", "TRL SyncRefModelCallback", version("trl"), 0.0, policy=before[0],
           before=before[1], after=after, steps=updated)


def import_openrlhf(folder, *modules):
    """Modules of an unpacked wheel, past the packages that import what is not installed."""
    root = next(Path(folder).glob("*.data/purelib/openrlhf"))
    for name in [name for name in sys.modules if name.split(".")[0] == "openrlhf"]:
        del sys.modules[name]
    for name in ("openrlhf", "openrlhf.models", "openrlhf.trainer", "openrlhf.utils"):
        sys.modules[name] = types.ModuleType(name)
        sys.modules[name].__path__ = [str(root.joinpath(*name.split(".")[1:]))]
    sys.modules["deepspeed"] = types.ModuleType("deepspeed")
    release = next(Path(folder).glob("*.dist-info")).name.split("-")[1].removesuffix(".dist")
    names = {"release": release}
    for module in modules:
        loaded = importlib.import_module(f"openrlhf.{module}")
        names.update({name: getattr(loaded, name) for name in dir(loaded) if name.endswith(("Loss", "DPOTrainer"))})
        if module == "models.loss":
            sys.modules["openrlhf.models"].DPOLoss = loaded.DPOLoss
    # TRL asks whether it is installed.
    del sys.modules["deepspeed"]
    return SimpleNamespace(**names)


current = import_openrlhf(sys.argv[1], "models.loss", "trainer.dpo_trainer")
reward_rows(current)
trl_dpo_rows()
openrlhf_dpo_rows(current)
trl_free_rows()
trl_kto_rows()
update_rows()
openrlhf_kto_rows(import_openrlhf(sys.argv[2], "models.loss"))

lines = ",\n".join(json.dumps(case) for case in cases)
Path(__file__).with_suffix(".json").write_text(f'{{"torch": "{torch.__version__}", "cases": [\n{lines}\n]}}\n')
print(len(cases), "cases,", len({(case["row"], case["reference"]) for case in cases}), "rows")

"""Writes advantage.json: advantages, returns, whitening, divergences and schedules of verl, OpenRLHF, TRL and transformers.

    python advantage.py VERL_FOLDER OPENRLHF_FOLDER TRL_0_19_FOLDER

The folders hold unpacked wheels; TRL and transformers are imported from the environment (TRL's PPO is only in the older
wheel). Every number comes from the reference's own code: functions are called as they are, and where the arithmetic sits
inside a long method, the lines between two markers are read from the installed source and run on given variables.
"""

import importlib
import inspect
import json
import math
import sys
import textwrap
import types
from importlib.metadata import PathDistribution
from pathlib import Path
from types import SimpleNamespace
from typing import Optional
from unittest.mock import MagicMock

import numpy as np
import torch
import transformers
import trl
from transformers import optimization
from trl.trainer import grpo_trainer, rloo_trainer

VERL, OPENRLHF, OLD_TRL = (Path(folder) for folder in sys.argv[1:4])
random = np.random.default_rng(20260402)
cases = []


def version(folder, name):
    return PathDistribution(next(folder.glob(f"{name}-*.dist-info"))).version


def bare(name, folder):
    """A package whose __init__ is not run, so that only the files asked for are imported."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module
    return module


def absent(*names, **fields):
    for name in names:
        sys.modules[name] = MagicMock(**fields)


absent("ray", "deepspeed", "tensordict", "omegaconf", "codetiming")
for package in ("verl", "verl.trainer", "verl.trainer.ppo", "verl.utils"):
    bare(package, VERL / package.replace(".", "/"))
absent("verl.trainer.config", "verl.workers", "verl.workers.config")
absent("verl.utils.device", get_device_name=lambda: "cpu")
absent("verl.utils.import_utils", deprecated=lambda *a, **k: lambda function: function)
groupwise = importlib.import_module("verl.utils.groupwise")
sys.modules["verl.utils"].as_torch_index = groupwise.as_torch_index
sys.modules["verl.utils"].group_mean_std = groupwise.group_mean_std
verl = importlib.import_module("verl.trainer.ppo.core_algos")
for package in ("openrlhf", "openrlhf.models", "openrlhf.trainer", "openrlhf.trainer.ppo_utils", "openrlhf.trainer.ray",
                "openrlhf.utils"):
    bare(package, OPENRLHF / package.replace(".", "/"))
absent("openrlhf.trainer.ray.launcher", "openrlhf.trainer.ppo_utils.experience", "openrlhf.utils.seqlen_balancing",
       "openrlhf.utils.logging_utils")
openrlhf_utils = importlib.import_module("openrlhf.models.utils")
openrlhf_maker = importlib.import_module("openrlhf.trainer.ppo_utils.experience_maker").RemoteExperienceMaker
openrlhf_controller = importlib.import_module("openrlhf.trainer.ppo_utils.kl_controller").AdaptiveKLController


def numbers(*shape, scale=1.0):
    """Numbers that f32 holds exactly."""
    return torch.tensor(np.float32(random.normal(size=shape) * scale).astype(np.float64))


def lists(value):
    if isinstance(value, torch.Tensor):
        value = value.detach().double().numpy()
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, list):
        return [lists(item) for item in value]
    if isinstance(value, float):
        # Nine digits tell every f32 from every other.
        return None if math.isnan(value) else float(f"{value:.9g}")
    return value


def add(objective, reference, settings, inputs, outputs):
    cases.append({
        "objective": objective, "reference": reference, "settings": settings,
        "inputs": {name: lists(value) for name, value in inputs.items()},
        "outputs": {name: lists(value) for name, value in outputs.items()},
    })


def lines_between(source, begin, end):
    """The source lines from the one that starts with `begin` to the one before `end`, as one program."""
    lines = source.splitlines()
    first = next(i for i, line in enumerate(lines) if line.strip().startswith(begin))
    last = next(i for i in range(first, len(lines)) if lines[i].strip().startswith(end))
    return textwrap.dedent("\n".join(lines[first:last]))


def run(program, **variables):
    exec(compile(program, "reference", "exec"), variables)
    return variables


def batch(group_size, prompts=4, width=7, gaps=False):
    """Masks with right padding (and holes), outcome rewards with zeros, ties and one constant group."""
    rows = group_size * prompts
    lengths = random.integers(2, width + 1, size=rows)
    mask = torch.tensor([[1.0] * n + [0.0] * (width - n) for n in lengths], dtype=torch.float64)
    if gaps:
        holes = torch.tensor(random.random((rows, width)) < 0.3) & (torch.arange(width) > 0)
        last = (mask.sum(1).long() - 1).unsqueeze(1)
        mask = torch.where(holes & (torch.arange(width) < last), 0.0, mask)
    rewards = torch.tensor(random.choice([0.0, 0.0, 1.0, 0.5, -1.0, 2.25], size=rows))
    rewards[:group_size] = 1.0
    return SimpleNamespace(
        mask=mask, rewards=rewards, kl=numbers(rows, width, scale=0.3), values=numbers(rows, width),
        index=np.repeat(np.arange(prompts), group_size), width=width, group_size=group_size,
    )


def inputs_of(b, **more):
    return {"rewards": b.rewards, "mask": b.mask, "kl": b.kl, **more}


def token_rewards(b, kl_coef):
    """verl's: the score on the last token, less KL, whose zeros at masked positions its caller makes."""
    scores = torch.zeros_like(b.kl)
    scores[torch.arange(len(scores)), (b.mask * torch.arange(b.width)).argmax(1)] = b.rewards
    return verl.compute_rewards(scores, b.kl, torch.zeros_like(b.kl), kl_coef) * b.mask


def verl_rows():
    config = SimpleNamespace(gamma=0.95, get=lambda key, default=None: default)
    plain = SimpleNamespace(gamma=1.0, get=lambda key, default=None: False if key == "norm_adv_by_std_in_grpo" else default)
    original = verl.group_mean_std
    for group_size, gaps in ((4, False), (3, True)):
        b = batch(group_size, gaps=gaps)
        base = {"kl_coef": 0.1, "group_size": group_size}

        def estimator(objective, function, reference="verl", more=None, **arguments):
            advantages, returns = function(token_rewards(b, 0.1), response_mask=b.mask, **arguments)
            add(objective, reference, base, inputs_of(b, **(more or {})),
                {"advantages": advantages * b.mask, "returns": returns * b.mask})

        estimator("gae", lambda r, response_mask: verl.compute_gae_advantage_return(r, b.values, response_mask, 0.9, 0.95),
                  more={"values": b.values})
        estimator("group_relative", verl.compute_grpo_outcome_advantage, index=b.index)
        estimator("mean_baseline", verl.compute_grpo_outcome_advantage, index=b.index, norm_adv_by_std_in_grpo=False)
        estimator("group_relative", verl.compute_grpo_vectorized_outcome_advantage, "verl vectorised", index=b.index)
        estimator("leave_one_out", verl.compute_rloo_outcome_advantage, index=b.index)
        estimator("leave_one_out", verl.compute_rloo_vectorized_outcome_advantage, "verl vectorised", index=b.index)
        estimator("length_weighted_baseline", verl.compute_opo_outcome_advantage, index=b.index)
        estimator("gradient_scaled", verl.compute_gpg_outcome_advantage, index=b.index, f_norm=1.5)
        estimator("best_of_group", verl.compute_grpo_passk_outcome_advantage, index=b.index, config=config)
        estimator("best_of_group_undivided", verl.compute_grpo_passk_outcome_advantage, index=b.index, config=plain)
        estimator("reinforce_whitened", verl.compute_reinforce_plus_plus_outcome_advantage, config=config)
        estimator("mean_baseline_whitened", verl.compute_reinforce_plus_plus_baseline_outcome_advantage, index=b.index)
        greedy = numbers(4)
        estimator("greedy_baseline", verl.compute_remax_outcome_advantage, more={"greedy_rewards": greedy},
                  reward_baselines=greedy.repeat_interleave(group_size))
        # The floor under the variance that older versions have, on rewards that differ by less than it.
        close = batch(group_size)
        close.rewards = numbers(len(close.rewards), scale=1e-3)
        verl.group_mean_std = lambda scores, group, eps, device: original(scores, group, eps=1e-6, device=device)
        floored, _ = verl.compute_grpo_vectorized_outcome_advantage(token_rewards(close, 0.0), close.mask, close.index)
        verl.group_mean_std = original
        add("group_relative_floored", "verl vectorised", {"kl_coef": 0.0, "group_size": group_size}, inputs_of(close),
            {"advantages": floored})
        # Two rewards, each normalised.
        second = torch.tensor(random.choice([0.0, 1.0], size=len(b.rewards)))
        data = {"first": b.rewards.numpy(), "second": second.numpy()}
        wide = batch(group_size)
        keys = {"gdpo_reward_keys": ["first", "second"], "gdpo_reward_weights": [1.0, 0.5]}
        prompt = torch.zeros(len(b.rewards), 1)
        advantages, _ = verl.compute_gdpo_outcome_advantage(
            token_rewards(wide, 0.0), wide.mask, wide.index, config=keys, non_tensor_batch=data,
            batch={"prompts": prompt, "attention_mask": torch.cat([prompt + 1, wide.mask], 1).long()})
        add("normalize_then_sum", "verl", {"group_size": group_size, "std_epsilon": 1e-6, "weights": [1.0, 0.5]},
            {"rewards": [data["first"], data["second"]], "mask": wide.mask}, {"advantages": advantages})
        for shift in (True, False):
            add("whitening_unbiased", "verl", {"shift_mean": shift}, {"values": b.values, "mask": b.mask},
                {"values": verl.verl_F.masked_whiten(b.values, b.mask, shift_mean=shift) * b.mask})


def kl_rows():
    # Beyond every clamp on both sides.
    log_probs, reference = numbers(40, scale=2.0), numbers(40, scale=2.0)
    log_probs[:4], reference[:4] = torch.tensor([-1.0, -25.0, -1.0, -13.0]), torch.tensor([-25.0, -1.0, -13.0, -1.0])

    def row(objective, name, kl, settings, **more):
        policy = log_probs.clone().requires_grad_()
        value = kl(policy)
        value.sum().backward()
        add(objective, name, settings, {"log_probs": log_probs, "ref_log_probs": reference, **more},
            {"values": value, "gradient": policy.grad})

    for kind in ("k1", "k2", "k3", "abs"):
        clamp = 10.0 if kind == "k3" else None
        row(kind, "verl", lambda p: verl.kl_penalty(p, reference, kind), {"clamp": clamp})
        if kind in ("k1", "k3"):
            row(f"{kind}_straight_through", "verl", lambda p: verl.kl_penalty(p, reference, kind + "+"), {"clamp": clamp})
    old = log_probs + numbers(40, scale=1.0)
    for kind in ("k1", "k2", "k3"):
        kl = openrlhf_utils.compute_approx_kl
        row(kind, "OpenRLHF", lambda p: kl(p, reference, kl_estimator=kind), {"clamp": 10.0})
        row(f"{kind}_corrected", "OpenRLHF",
            lambda p: kl(p, reference, old, kl_estimator=kind, unbiased_gradient=True), {"clamp": 10.0}, old_log_probs=old)
    program = lines_between(inspect.getsource(grpo_trainer.GRPOTrainer._compute_loss), "ref_per_token_logps = inputs[",
                            "# From here")
    for corrected in (False, True):
        def trl_k3(policy):
            stub = SimpleNamespace(beta=0.1, args=SimpleNamespace(use_bias_correction_kl=corrected))
            return run(program, self=stub, torch=torch, inputs={"ref_per_token_logps": reference},
                       per_token_logps=policy, coef_1=torch.exp(policy - old))["per_token_kl"]
        mild = (reference - log_probs).abs() < 8
        log_probs, reference, old = log_probs[mild], reference[mild], old[mild]
        name = "k3_corrected" if corrected else "k3"
        row(name, "TRL GRPO", trl_k3, {"clamp": None}, **({"old_log_probs": old} if corrected else {}))
    for name, controller in (("verl", verl.AdaptiveKLController), ("OpenRLHF", openrlhf_controller)):
        controller = controller(0.02, 3.0, 10000)
        measured, coefficients = np.abs(random.normal(size=20) * 4), []
        for value in measured:
            controller.update(value, 512)
            coefficients.append(controller.value)
        add("adaptive_kl", name, {"kl_coef": 0.02, "target": 3.0, "horizon": 10000.0, "num_samples": 512},
            {"kl": measured}, {"kl_coef": np.array(coefficients)})


def openrlhf_rows():
    estimators = ("gae", "reinforce", "rloo", "reinforce_baseline", "group_norm", "dr_grpo", "flash_reinforce")
    for estimator in estimators:
        for lengths, no_std, gaps in ((False, False, False), (True, False, True), (False, True, True)):
            b = batch(4, gaps=gaps)
            b.rewards = b.rewards * 3
            truncated = torch.tensor(random.random(len(b.rewards)) < 0.3)
            gamma = 0.9 if estimator in ("gae", "reinforce") else 1.0
            stop = (0.25, -0.5)[int(random.integers(2))] if lengths else None
            args = SimpleNamespace(
                rollout=SimpleNamespace(n_samples_per_prompt=4, max_new_tokens=b.width),
                reward=SimpleNamespace(clip_range=(-2.0, 2.0), overlong_buffer_len=3 if lengths else None,
                                       overlong_penalty_factor=0.75, stop_properly_penalty_coef=stop),
                algo=SimpleNamespace(advantage=SimpleNamespace(
                    estimator=estimator, gamma=gamma, lambd=0.95, no_std_norm=no_std)))
            halves = [slice(0, 6), slice(6, 16)]
            experiences = [SimpleNamespace(
                rewards=b.rewards[half].clone(), index=list(range(16))[half], kl=b.kl[half] * b.mask[half],
                action_mask=b.mask[half], values=b.values[half], truncated=truncated[half],
                response_length=b.mask[half].sum(1), info={}) for half in halves]
            maker = SimpleNamespace(strategy=SimpleNamespace(args=args), advantage_estimator=estimator,
                                    kl_ctl=SimpleNamespace(value=0.1))
            for method in ("get_advantages_and_returns", "get_cumulative_returns"):
                setattr(maker, method, types.MethodType(getattr(openrlhf_maker, method), maker))
            openrlhf_maker.compute_advantages_and_returns(maker, experiences)
            joined = {name: torch.cat([getattr(e, name) for e in experiences]) * b.mask for name in ("advantages", "returns")}
            settings = {"kl_coef": 0.1, "group_size": 4, "gamma": gamma, "std_norm": not no_std, "clip": 2.0,
                        "max_length": b.width, "buffer": 3 if lengths else None, "factor": 0.75, "stop": stop}
            add(f"pipeline_{estimator}", "OpenRLHF", settings,
                inputs_of(b, values=b.values, truncated=[bool(x) for x in truncated]), joined)
    values, mask = numbers(3, 9), (numbers(3, 9) > -0.5).double()
    add("whitening_biased_rows", "OpenRLHF", {}, {"values": values, "mask": mask},
        {"values": openrlhf_utils.masked_normalize(values, mask)})


def trl_rows():
    grpo = lines_between(inspect.getsource(grpo_trainer.GRPOTrainer._generate_and_score_completions),
                         "unscorable_mask = torch.isnan", "# Slice to keep only the local")
    rloo = lines_between(inspect.getsource(rloo_trainer.RLOOTrainer._generate_and_score_completions),
                         "unscorable_mask = torch.isnan", "is_std_zero")
    for missing in (False, True):
        rewards = torch.tensor(random.choice([0.0, 1.0, 0.5, 3.25], size=(16, 2)))
        rewards[:4] = 0.5
        if missing:
            rewards[torch.tensor([1, 6, 9, 10, 11])] = float("nan")
            rewards[13, 0] = float("nan")
        weights = torch.tensor([1.0, 0.5])
        names = {"rewards_per_func": rewards, "torch": torch, "device": "cpu", "num_generations": 4}
        inputs = {"rewards": [rewards[:, 0], rewards[:, 1]]}
        for aggregation, scale in (("sum_then_normalize", "group"), ("sum_then_normalize", "batch"),
                                   ("sum_then_normalize", "none"), ("normalize_then_sum", "group")):
            stub = SimpleNamespace(multi_objective_aggregation=aggregation, scale_rewards=scale, reward_weights=weights,
                                   reward_funcs=[0, 1])
            out = run(grpo, self=stub, nanstd=grpo_trainer.nanstd, **names)
            name = aggregation if aggregation == "normalize_then_sum" else f"sum_then_{scale}"
            add(name, "TRL GRPO", {"group_size": 4, "std_epsilon": 1e-4, "weights": [1.0, 0.5]}, inputs,
                {"advantages": out["advantages"]})
        b = batch(4)
        for normalize in (False, True):
            stub = SimpleNamespace(reward_weights=weights, reward_clip_range=(-1.0, 2.0), beta=0.05,
                                   normalize_advantages=normalize)
            old = numbers(16, b.width)
            out = run(rloo, self=stub, nanstd=rloo_trainer.nanstd, gather=lambda x: x, completion_mask=b.mask,
                      old_per_token_logps=old, ref_per_token_logps=old - b.kl, **names)
            add("clip_kl_leave_one_out", "TRL RLOO",
                {"group_size": 4, "weights": [1.0, 0.5], "clip": [-1.0, 2.0], "kl_coef": 0.05, "whiten": normalize},
                {**inputs, "mask": b.mask, "kl": b.kl}, {"advantages": out["advantages"]})
    # PPO of the older wheel, read as text: its package does not import beside the new one.
    core = run(lines_between((OLD_TRL / "trl/core.py").read_text(), "def masked_mean", "class LengthSampler"), torch=torch,
               Optional=Optional)
    source = (OLD_TRL / "trl/trainer/ppo_trainer.py").read_text()
    ppo = lines_between(source, "contain_eos_token = torch.any", "empty_cache()")
    if "advantages = masked_whiten" not in ppo:
        raise SystemExit("the markers in TRL's PPO have moved")
    for whiten in (False, True):
        b = batch(1, prompts=12)
        lengths = b.mask.sum(1).long() - 1
        ids = torch.full((12, b.width), 5)
        ended = torch.tensor(random.random(12) < 0.6)
        for row in range(12):
            ids[row, lengths[row]] = 9 if ended[row] else 5
        old = numbers(12, b.width)
        args = SimpleNamespace(missing_eos_penalty=0.75, kl_estimator="k1", kl_coef=0.1, whiten_rewards=whiten, gamma=0.9,
                               lam=0.95)
        stub = SimpleNamespace(args=args, processing_class=SimpleNamespace(eos_token_id=9))
        out = run(ppo, self=stub, args=args, torch=torch, INVALID_LOGPROB=1.0, masked_whiten=core["masked_whiten"],
                  postprocessed_responses=ids, responses=ids, scores=b.rewards.clone(), sequence_lengths=lengths,
                  logprobs=old.clone(), ref_logprobs=(old - b.kl).clone(), values=b.values.clone())
        # Its score sits one place after the last token, so its mask for rewards and values has one token more.
        add("pipeline_ppo", "TRL PPO", {"penalty": 0.75, "kl_coef": 0.1, "gamma": 0.9, "gae_lambda": 0.95, "whiten": whiten},
            {"rewards": b.rewards, "mask": b.mask, "wide_mask": (~out["padding_mask_p1"]).double(), "values": b.values,
             "kl": b.kl * b.mask, "truncated": [not bool(x) for x in ended]},
            {"advantages": out["advantages"] * b.mask, "returns": out["returns"] * (~out["padding_mask_p1"])})


def schedule_rows():
    steps = [0, 1, 5, 10, 11, 40, 99, 100, 150]
    for warmup, timescale in ((10, None), (0, None), (10, 50)):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
        rate = optimization.get_inverse_sqrt_schedule(optimizer, warmup, timescale=timescale).lr_lambdas[0]
        add("inverse_sqrt", "transformers", {"warmup": warmup, "timescale": timescale}, {"steps": steps},
            {"rates": [2.0 * rate(step) for step in steps]})
    for floor in (0.0, 0.1):
        optimizer = torch.optim.SGD([torch.zeros(1)], lr=2.0)
        rate = optimization.get_cosine_with_min_lr_schedule_with_warmup(optimizer, 10, 100, min_lr_rate=floor).lr_lambdas[0]
        held = [step for step in steps if step <= 100]
        add("cosine", "transformers", {"warmup": 10, "total": 100, "floor": floor}, {"steps": held},
            {"rates": [2.0 * rate(step) for step in held]})
    rate = optimization.get_linear_schedule_with_warmup(torch.optim.SGD([torch.zeros(1)], lr=2.0), 10, 100).lr_lambdas[0]
    add("linear", "transformers", {"warmup": 10, "total": 100}, {"steps": steps},
        {"rates": [2.0 * rate(step) for step in steps]})


verl_rows()
kl_rows()
openrlhf_rows()
trl_rows()
schedule_rows()
versions = {
    "verl": version(VERL, "verl"), "OpenRLHF": version(OPENRLHF, "openrlhf"), "TRL": trl.__version__,
    "TRL PPO": version(OLD_TRL, "trl"), "transformers": transformers.__version__, "torch": torch.__version__.split("+")[0],
}
lines = ",\n".join(json.dumps(case, allow_nan=False) for case in cases)
text = f'{{"versions": {json.dumps(versions)}, "cases": [\n{lines}\n]}}\n'
Path(__file__).with_suffix(".json").write_text(text)
print(len(cases), "cases", len(text), "bytes")

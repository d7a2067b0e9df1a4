"""Writes policy.json: values and gradients of the policy-gradient losses of TRL, OpenRLHF and verl.

    python policy.py OPENRLHF_FOLDER VERL_FOLDER     (unpacked wheels: the folders that hold `openrlhf` and `verl`)

Every number comes from the reference's own code. TRL's losses sit inside trainers, whose `_compute_loss` runs on a stub that
returns given log-probabilities. The two packages are loaded file by file, with empty modules in place of the libraries that
their losses import but do not use. Inputs lie on a grid that f32 holds exactly; the references compute in f64.
"""

import ast
import inspect
import json
import math
import sys
import textwrap
import types
from collections import defaultdict
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import numpy as np
import torch
import trl
from trl.experimental.gmpo.gmpo_trainer import GMPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.grpo_trainer import GRPOTrainer
from trl.trainer.rloo_trainer import RLOOTrainer
from trl.trainer.sft_trainer import SFTTrainer

torch.set_default_dtype(torch.float64)
openrlhf_folder, verl_folder = (Path(argument) for argument in sys.argv[1:3])


def version(folder, package):
    metadata = next(path for path in folder.rglob("METADATA") if path.parent.name.startswith(f"{package}-"))
    return next(line.split()[1] for line in metadata.read_text().splitlines() if line.startswith("Version:"))


def bare_package(name, folder):
    """A package whose `__init__` does not run."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def empty_module(name, **fields):
    module = types.ModuleType(name)
    module.__getattr__ = lambda _: MagicMock()
    for field, value in fields.items():
        setattr(module, field, value)
    sys.modules[name] = module


class ActorConfig(SimpleNamespace):
    def get(self, name, default=None):
        return getattr(self, name, default)


empty_module("deepspeed")
for name in ("openrlhf", "openrlhf.models"):
    bare_package(name, openrlhf_folder / name.replace(".", "/"))
from openrlhf.models.loss import PolicyLoss, SFTLoss, ValueLoss  # noqa: E402

for name in ("verl", "verl.utils", "verl.trainer", "verl.trainer.ppo"):
    bare_package(name, verl_folder / name.replace(".", "/"))
empty_module("omegaconf", DictConfig=type("DictConfig", (), {}))
empty_module("tensordict")
empty_module("verl.trainer.config", AlgoConfig=type("AlgoConfig", (), {}))
empty_module("verl.trainer.config.algorithm")
empty_module("verl.workers.config", ActorConfig=ActorConfig)
empty_module("verl.workers.config.actor")
empty_module("verl.utils.device")
empty_module("verl.utils.import_utils", deprecated=lambda *_: lambda function: function)
sys.modules["verl.utils"].as_torch_index = sys.modules["verl.utils"].group_mean_std = None


class DataProto(SimpleNamespace):
    from_dict = classmethod(lambda cls, tensors: cls(batch=tensors))


empty_module("verl.protocol", DataProto=DataProto)
from verl.trainer.ppo import core_algos, rollout_corr_helper  # noqa: E402

random = np.random.default_rng(20260402)
ARRAYS = ("log_probs", "old_log_probs", "sampling_log_probs", "ref_log_probs", "advantages", "entropy", "values", "old_values", "returns")


def on_grid(values):
    return np.round(np.asarray(values) * 4096) / 4096


def batch(lengths, width, per_token_advantages, spread=0.35):
    shape = (len(lengths), width)
    log_probs = on_grid(random.uniform(-4, -0.02, shape))
    moved = lambda scale: on_grid(np.minimum(log_probs + random.normal(size=shape) * scale, -0.005))
    old = moved(spread)
    advantages = random.normal(size=shape if per_token_advantages else (len(lengths), 1)) * np.ones(shape)
    values = on_grid(random.normal(size=shape))
    return {
        "log_probs": log_probs, "old_log_probs": old, "ref_log_probs": moved(0.5),
        "sampling_log_probs": on_grid(np.minimum(old + random.normal(size=shape) * 0.4, -0.005)),
        "advantages": on_grid(advantages), "entropy": on_grid(random.uniform(0, 3, shape)),
        "values": values, "old_values": on_grid(values + random.normal(size=shape) * 0.5), "returns": on_grid(random.normal(size=shape)),
        "mask": np.array([[t < length for t in range(width)] for length in lengths]),
    }


# Rows without a response token too; "far": log-ratios beyond the clamps.
batches = {
    "rows": batch([6, 3, 0, 5, 1], 6, False), "rows_full": batch([6, 4, 5, 6], 6, False),
    "tokens": batch([5, 6, 0, 2, 4], 6, True), "tokens_full": batch([6, 4, 5, 6], 6, True),
    "near": batch([6, 3, 0, 5, 4], 6, False, spread=0.02),
}
batches["far"] = batch([3, 4], 4, True)
batches["far"]["log_probs"][0, :2] = -0.5
batches["far"]["old_log_probs"][0, :2] = (-23.0, -11.5)
batches["far"]["old_log_probs"][1, 0] = -0.25
batches["far"]["log_probs"][1, 0] = -26.0
batches["far"]["advantages"][0, :2] = 1.5
cases = []


def tensors(name, grad="log_probs"):
    """The arrays of a batch, junk where masked, one of them with a gradient."""
    given = batches[name]
    found = {key: torch.tensor(given[key]) for key in ARRAYS}
    found["mask"] = torch.tensor(given["mask"], dtype=torch.float64)
    found[grad].requires_grad_(True)
    return found


def add(kind, name, reference, batch_name, loss=None, gradient=None, **more):
    case = {"kind": kind, "name": name, "reference": reference, "batch": batch_name, **more}
    if loss is not None:
        loss.backward()
        case |= {"loss": loss.item(), "gradient": gradient.grad.flatten().tolist()}
    cases.append(case)


def ratio(level="token", clamp=None):
    return {"level": level} if clamp is None else {"level": level, "clamp": clamp}


OFF = {"kind": "off"}


def clipped(low, high, level="token", clamp=OFF, **bounds):
    return {"kind": "clipped", "ratio": ratio(level, clamp), "clip": {"low": low, "high": high}, **bounds}


def reduction(kind, **fields):
    return {"kind": kind, **fields}


SEQ_MEAN = reduction("seq_mean_token_mean")


# TRL


def trl_stub(given, **fields):
    same = lambda x, *_, **__: x
    accelerator = SimpleNamespace(num_processes=1, gather=same, gather_for_metrics=same, reduce=same, pad_across_processes=same, sync_gradients=True)
    args = {
        "delta": None, "use_bias_correction_kl": False, "sapo_temperature_pos": 1.0, "sapo_temperature_neg": 1.05,
        "vespo_k_pos": 2.0, "vespo_lambda_pos": 3.0, "vespo_k_neg": 3.0, "vespo_lambda_neg": 2.0, "steps_per_generation": 1,
        "entropy_target": 0.2, "entropy_coef_delta": 0.005, "entropy_coef_min": 0.0, "entropy_coef_max": 1.0,
    }
    stub = SimpleNamespace(
        accelerator=accelerator, model=SimpleNamespace(training=True), current_gradient_accumulation_steps=1,
        top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token", beta=0.0,
        epsilon_low=0.2, epsilon_high=0.2, use_vllm=False, vllm_importance_sampling_correction=False, max_completion_length=17,
        _entropy_bonus_enabled=False, use_adaptive_entropy=False, entropy_coef=0.0, _last_world_entropy=math.inf,
        _entropy_window_stats=None, aux_loss_enabled=False, _metrics=defaultdict(lambda: defaultdict(list)),
        get_off_policy_mask=GRPOTrainer.get_off_policy_mask, get_gamma_weights=GRPOTrainer.get_gamma_weights,
        _get_per_token_logps_and_entropies=lambda *_, **__: (given["log_probs"], given["entropy"], None),
    )
    stub.get_high_entropy_mask = types.MethodType(GRPOTrainer.get_high_entropy_mask, stub)
    args |= {key: fields.pop(key) for key in list(fields) if key in args}
    stub.args = SimpleNamespace(**args)
    for key, value in fields.items():
        setattr(stub, key, value)
    return stub


def trl_inputs(given, **more):
    mask = given["mask"]
    return {
        "prompt_ids": torch.zeros(len(mask), 1), "prompt_mask": torch.ones(len(mask), 1), "completion_ids": torch.zeros_like(mask),
        "completion_mask": mask, "advantages": given["advantages"][:, 0], "old_per_token_logps": given["old_log_probs"],
        "old_logps": (given["old_log_probs"] * mask).sum(1), "ref_per_token_logps": given["ref_log_probs"],
        "sampling_per_token_logps": given["sampling_log_probs"], "num_items_in_batch": mask.sum(), **more,
    }


def trl_importance(stub, given):
    """The weights that TRL's rollout computes: the very block of its method, compiled alone."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(GRPOTrainer._generate_and_score_completions)))
    blocks = [node for node in ast.walk(tree) if isinstance(node, ast.If) and "per_token_logps_diff" in ast.unparse(node)]
    block = min(blocks, key=lambda node: len(ast.unparse(node)) if "masked_fill" in ast.unparse(node) and "clip_max" in ast.unparse(node) and "self.use_vllm" in ast.unparse(node.test) else math.inf)
    space = {
        **vars(grpo_trainer), "self": stub, "completion_mask": given["mask"], "tool_mask": None,
        "old_per_token_logps": given["old_log_probs"], "sampling_per_token_logps": given["sampling_log_probs"],
    }
    exec(compile(ast.Module([block], []), "trl", "exec"), space)
    return space["vllm_importance_sampling_ratio"]


def importance(judged, weight, outside, low=None, high=None, clamp=OFF, normalize=False):
    return {"judged": judged, "weight": weight, "outside": outside, "low": low, "high": high, "clamp": clamp, "normalize": normalize}


TRL_IMPORTANCE = {
    "token_truncate": importance("token", "token", "truncate", 0.5, 1.5),
    "token_mask": importance("token", "token", "drop", 0.5, 1.5),
    "sequence_truncate": importance("sequence_sum", "sequence_sum", "truncate", None, 1.5),
    "sequence_mask": importance("sequence_sum", "sequence_sum", "drop", None, 1.5),
}


def trl_case(name, loss_type, objective, reduced, batch_name="rows", level="token", case=None, method=GRPOTrainer, **fields):
    given = tensors(batch_name)
    stub = trl_stub(given, loss_type=loss_type, importance_sampling_level=level, **fields)
    inputs = trl_inputs(given)
    if stub.use_vllm:
        stub.vllm_importance_sampling_correction = True
        stub.vllm_importance_sampling_clip_min = case["importance"]["low"]
        stub.vllm_importance_sampling_clip_max = case["importance"]["high"]
        with torch.no_grad():
            inputs["importance_sampling_ratio"] = trl_importance(stub, given)
    label = {GRPOTrainer: "TRL GRPOTrainer", RLOOTrainer: "TRL RLOOTrainer", GMPOTrainer: "TRL GMPOTrainer"}[method]
    loss = method._compute_loss(stub, None, inputs)
    add("policy", name, label, batch_name, loss, given["log_probs"], objective=objective, reduction=reduced, **(case or {}))
    return stub


def trl_rows():
    ppo = clipped(0.2, 0.28)
    masked = {"counting_masked_rows": True}
    high = {"epsilon_high": 0.28}
    for name in ("rows", "rows_full"):
        trl_case("clipped", "grpo", ppo, SEQ_MEAN, name, case=masked, **high)
        trl_case("clipped", "bnpo", ppo, reduction("token_mean_local"), name, **high)
        trl_case("clipped", "dr_grpo", ppo, reduction("const_norm", max_length=17), name, case=masked, **high)
        trl_case("clipped", "dapo", ppo, reduction("token_mean"), name, **high)
        trl_case("clipped max_ratio", "dapo", clipped(0.2, 0.28, max_ratio=1.4), reduction("token_mean"), name, delta=1.4, **high)
        trl_case("sapo", "sapo", {"kind": "sapo", "ratio": ratio(clamp=OFF), "tau_positive": 1.0, "tau_negative": 1.05}, SEQ_MEAN, name, case=masked)
        for cap in (5.0, 1.1):
            trl_case("cispo", "cispo", {"kind": "cispo", "ratio": ratio(clamp=OFF), "low": 0.0, "high": cap}, reduction("token_mean"), name, epsilon_high=cap)
        vespo = {"kind": "vespo", "k_positive": 2.0, "lambda_positive": 3.0, "k_negative": 3.0, "lambda_negative": 2.0}
        trl_case("vespo", "vespo", vespo, reduction("token_mean"), name)
        trl_case("vespo", "vespo", vespo, reduction("token_mean"), name, case={"importance": TRL_IMPORTANCE["token_truncate"]}, use_vllm=True, vllm_importance_sampling_mode="token_truncate")
        for mode, correction in TRL_IMPORTANCE.items():
            trl_case(f"clipped, {mode}", "dapo", ppo, reduction("token_mean"), name, case={"importance": correction}, use_vllm=True, vllm_importance_sampling_mode=mode, **high)
        trl_case("clipped, drop_off_policy", "dapo", ppo, reduction("token_mean"), name, case={"selection": {"off_policy": 0.01}}, off_policy_mask_threshold=0.01, **high)
        trl_case("clipped, keep_high_entropy", "dapo", ppo, reduction("token_mean"), name, case={"selection": {"top_entropy": 0.4}}, top_entropy_quantile=0.4, **high)
        trl_case("clipped + kl_loss k3", "dapo", ppo, reduction("token_mean"), name, case={"kl_coef": 0.3}, beta=0.3, **high)
    # Here a wholly masked row would cost a constant, so there is none.
    for low, high_ in ((0.2, 0.28), (0.05, 0.3)):
        epsilons = {"epsilon_low": low, "epsilon_high": high_}
        trl_case("clipped sequence_sum", "rloo", clipped(low, high_, "sequence_sum"), SEQ_MEAN, "rows_full", method=RLOOTrainer, **epsilons)
        gmpo = {"kind": "gmpo", "low": low, "high": high_, "clamp": OFF}
        trl_case("gmpo", "gmpo", gmpo, SEQ_MEAN, "rows_full", method=GMPOTrainer, **epsilons)
    for name in ("near", "rows_full"):
        for low, high_ in ((3e-4, 4e-4), (0.05, 0.05)):
            gspo = clipped(low, high_, "sequence_mean")
            epsilons = {"epsilon_low": low, "epsilon_high": high_}
            trl_case("clipped sequence_mean", "grpo", gspo, SEQ_MEAN, name, "sequence", case=masked, **epsilons)
            trl_case("clipped sequence_mean", "luspo", gspo, reduction("seq_mean_token_sum"), name, "sequence", case=masked, **epsilons)
    # Supervised: what a fused head would return goes in, zero on ignored positions.
    for loss_type in ("nll", "dft"):
        given = tensors("tokens")
        outputs = SimpleNamespace(log_probs=given["log_probs"] * given["mask"], label_mask=given["mask"], entropy=given["entropy"], is_top1=given["mask"])
        accelerator = SimpleNamespace(parallelism_config=None, num_processes=1, gather_for_metrics=lambda x: x)
        stub = SimpleNamespace(
            accelerator=accelerator, model=SimpleNamespace(training=False), aux_loss_enabled=False, compute_loss_func=None, label_smoother=None,
            args=SimpleNamespace(loss_type=loss_type, average_tokens_across_devices=False), _metrics=defaultdict(lambda: defaultdict(list)),
            _total_train_tokens=0,
        )
        loss = SFTTrainer.compute_loss(stub, lambda **_: outputs, {})
        add("cross_entropy", loss_type, "TRL SFTTrainer", "tokens", loss, given["log_probs"], reduction=reduction("token_mean"), loss_kind=loss_type)
    # The bonus, and six steps of its controller.
    for name in ("rows", "rows_full"):
        given = tensors(name, grad="entropy")
        given["log_probs"].requires_grad_(True)
        stub = trl_stub(given, loss_type="dapo", _entropy_bonus_enabled=True, entropy_coef=0.03)
        loss = GRPOTrainer._compute_loss(stub, None, trl_inputs(given)) - stub._metrics["train"]["policy_loss"][0]
        add("entropy", "entropy_bonus", "TRL GRPOTrainer", name, loss, given["entropy"], reduction=reduction("token_mean"), entropy_coef=0.03)
    given = tensors("rows_full")
    entropies, coefficients = [0.1, 0.1, 0.4, 0.25, 0.15, 0.15], []
    stub = trl_stub(given, loss_type="dapo", _entropy_bonus_enabled=True, use_adaptive_entropy=True, entropy_coef=0.004)
    stub.args.entropy_coef_max = 0.012
    for entropy in entropies:
        given["entropy"] = torch.full_like(given["mask"], entropy, requires_grad=True)
        loss = GRPOTrainer._compute_loss(stub, None, trl_inputs(given))
        gradient = torch.autograd.grad(loss, given["entropy"])[0]
        coefficients.append(max(0.0, -gradient.sum().item()))
    controller = {"kind": "adaptive", "entropy_coef": 0.004, "target": 0.2, "delta": 0.005, "min": 0.0, "max": 0.012}
    add("entropy_controller", "entropy adaptive", "TRL GRPOTrainer", "rows_full", controller=controller, entropies=entropies, coefficients=coefficients)


# OpenRLHF


def openrlhf_case(name, objective, reduced, batch_name, case=None, **settings):
    given = tensors(batch_name)
    loss, clip_fraction, approx_kl, *_ = PolicyLoss(**settings)(given["log_probs"], given["old_log_probs"], given["advantages"], given["mask"], given["sampling_log_probs"])
    if case is None and batch_name != "far":
        case = {"statistics": {"clip_fraction": clip_fraction.item(), "approx_kl": approx_kl.item()}}
    add("policy", name, "OpenRLHF PolicyLoss", batch_name, loss, given["log_probs"], objective=objective, reduction=reduced, **(case or {}))


def openrlhf_rows():
    clamp = {"kind": "within", "low": -20.0, "high": 20.0}
    ppo = clipped(0.2, 0.28, clamp=clamp)
    eps = {"clip_eps_low": 0.2, "clip_eps_high": 0.28}
    for name in ("tokens", "tokens_full", "far"):
        openrlhf_case("clipped", ppo, reduction("token_mean"), name, **eps)
        openrlhf_case("clipped", ppo, SEQ_MEAN, name, token_level_loss=False, **eps)
        openrlhf_case("clipped dual_clip", clipped(0.2, 0.28, clamp=clamp, dual_clip=1.3), reduction("token_mean"), name, dual_clip=1.3, **eps)
    for name in ("tokens", "near"):
        for low, high in ((3e-4, 4e-4), (0.05, 0.05)):
            openrlhf_case("clipped sequence_mean", clipped(low, high, "sequence_mean"), SEQ_MEAN, name, policy_loss_type="gspo", clip_eps_low=low, clip_eps_high=high)
        # With the correction on, the sampling log-probabilities take the place of the old ones.
        openrlhf_case("clipped sequence_mean", clipped(0.05, 0.05, "sequence_mean"), SEQ_MEAN, name, case={"bypass": True}, policy_loss_type="gspo", clip_eps_low=0.05, clip_eps_high=0.05, is_correction_level="token")
    band = {"is_correction_threshold": (0.8, 1.2)}
    for name in ("tokens", "tokens_full"):
        for label, level, mode, judged, outside in (
            ("tis", "token", "clip", "token", "truncate"), ("icepop", "token", "mask", "token", "drop"),
            ("seq-mask-tis", "seq", "mask", "sequence_mean", "drop"),
        ):
            case = {"importance": importance(judged, "token", outside, 0.8, 1.2)}
            openrlhf_case(f"clipped, {label}", ppo, reduction("token_mean"), name, case, is_correction_level=level, is_correction_mode=mode, **band, **eps)
        for gating, statistic in (("binary_kl", "binary_kl"), ("tv", "total_variation")):
            for level, ours in (("token", "token"), ("seq", "sequence_mean")):
                limit = 0.02 if gating == "binary_kl" else 0.05
                case = {"importance": importance("token", "token", "truncate"), "selection": {"rejection": {"statistic": statistic, "level": ours, "high": limit}}}
                openrlhf_case(f"clipped, rejection {statistic}", ppo, reduction("token_mean"), name, case, is_correction_level=level, is_correction_gating=gating, is_correction_threshold=(0.0, limit), **eps)
        for token_level, reduced in ((True, reduction("token_mean")), (False, SEQ_MEAN)):
            for clip in (None, 0.2):
                given = tensors(name, grad="values")
                loss = ValueLoss(clip, token_level)(given["values"], given["old_values"], given["returns"], given["mask"])
                add("value", "clipped_value_loss" if clip else "value_loss", "OpenRLHF ValueLoss", name, loss, given["values"], reduction=reduced, clip=clip)
            given = tensors(name)
            loss = SFTLoss(token_level)(given["log_probs"], given["mask"])
            add("cross_entropy", "nll", "OpenRLHF SFTLoss", name, loss, given["log_probs"], reduction=reduced, loss_kind="nll")


# verl

VERL_REDUCTIONS = {
    "token-mean": reduction("token_mean"), "token-sum": reduction("token_sum"), "seq-mean-token-sum": reduction("seq_mean_token_sum"),
    "seq-mean-token-mean": SEQ_MEAN, "seq-mean-token-sum-norm": reduction("const_norm", max_length=6),
}


def verl_case(name, function, objective, mode, batch_name, case=None, weights=None, old="old_log_probs", **fields):
    given = tensors(batch_name)
    losses = {"clip_cov_ratio": 1.0, "clip_cov_lb": 0.1, "clip_cov_ub": 2.0, "kl_cov_ratio": 0.2, "ppo_kl_coef": 0.7, "dro_beta": 0.3}
    settings = {"clip_ratio": 0.2, "clip_ratio_low": 0.2, "clip_ratio_high": 0.28, "global_batch_info": {}, "tau_pos": 1.0, "tau_neg": 1.05}
    policy_loss = ActorConfig(**losses, **fields.pop("policy_loss", {}))
    config = ActorConfig(**{**settings, "policy_loss": policy_loss, **fields})
    if weights is not None:
        weights = rollout_corr_helper.compute_rollout_correction_weights(given["old_log_probs"] - given["sampling_log_probs"], given["mask"], **weights)[0]
    loss, metrics = function(given[old], given["log_probs"], given["advantages"], given["mask"], loss_agg_mode=mode, config=config, rollout_is_weights=weights)
    case = {"objective": objective, "reduction": VERL_REDUCTIONS[mode], **(case or {})}
    if "clipped" in name and "actor/pg_clipfrac_lower" in metrics and batch_name != "far" and "bypass" not in case:
        names = {"clip_fraction": "pg_clipfrac", "dual_clip_fraction": "pg_clipfrac_lower", "approx_kl": "ppo_kl"}
        case["statistics"] = {ours: metrics[f"actor/{theirs}"] for ours, theirs in names.items()}
    add("policy", name, "verl core_algos", batch_name, loss, given["log_probs"], **case)


def verl_rows():
    clamp = {"kind": "within", "low": -20.0, "high": 20.0}
    ppo = clipped(0.2, 0.28, clamp=clamp, dual_clip=1.3)
    for name in ("tokens", "tokens_full"):
        for mode in VERL_REDUCTIONS:
            verl_case("clipped dual_clip", core_algos.compute_policy_loss_vanilla, ppo, mode, name, clip_ratio_c=1.3)
    verl_case("clipped dual_clip", core_algos.compute_policy_loss_vanilla, clipped(0.2, 0.28, clamp=clamp, dual_clip=3.0), "token-mean", "far")
    for name in ("tokens", "tokens_full"):
        for divergence, function in (("total_variation", core_algos.compute_policy_loss_dppo_tv), ("binary_kl", core_algos.compute_policy_loss_dppo_kl)):
            for limit in (0.02, 0.1):
                dppo = {"kind": "dppo", "ratio": ratio(clamp=clamp), "divergence": divergence, "low": limit / 2, "high": limit, "max_ratio": 1.3}
                verl_case("dppo", function, dppo, "token-mean", name, clip_ratio_low=limit / 2, clip_ratio_high=limit, clip_ratio_c=1.3)
        cispo = {"kind": "cispo", "ratio": ratio(clamp=clamp), "low": 0.8, "high": 1.28}
        verl_case("cispo", core_algos.compute_policy_loss_cispo, cispo, "token-mean", name)
        sapo = {"kind": "sapo", "ratio": ratio(clamp=clamp), "tau_positive": 1.0, "tau_negative": 1.05}
        verl_case("sapo", core_algos.compute_policy_loss_sapo, sapo, "seq-mean-token-mean", name)
        verl_case("reinforce", core_algos.compute_policy_loss_gpg, {"kind": "reinforce"}, "token-mean", name)
        verl_case("dro", core_algos.compute_policy_loss_dro, {"kind": "dro", "beta": 0.3}, "token-mean", name)
        clip_cov = {"kind": "clip_cov", "ratio": ratio(clamp=OFF), "clip": {"low": 0.2, "high": 0.28}, "fraction": 1.0, "low": 0.1, "high": 2.0}
        verl_case("clip_cov", core_algos.compute_policy_loss_clip_cov, clip_cov, "token-mean", name)
        kl_cov = {"kind": "kl_cov", "ratio": ratio(clamp=OFF), "fraction": 0.2, "kl_coef": 0.7}
        verl_case("kl_cov", core_algos.compute_policy_loss_kl_cov, kl_cov, "token-mean", name)
        # Weights against the sampling engine, on two losses that use them differently.
        for label, weights, ours in (
            ("tis", {"rollout_is": "token", "rollout_is_threshold": 1.2}, importance("token", "token", "truncate", None, 1.2, clamp)),
            ("normalize", {"rollout_is": "token", "rollout_is_threshold": 1.2, "rollout_is_batch_normalize": True}, importance("token", "token", "truncate", None, 1.2, clamp, True)),
            ("icepop", {"rollout_is": "token", "rollout_is_threshold": "0.8_1.2"}, importance("token", "token", "drop", 0.8, 1.2, clamp)),
            ("sequence", {"rollout_is": "sequence", "rollout_is_threshold": 1.2}, importance("sequence_sum", "sequence_sum", "truncate", None, 1.2, clamp)),
            ("sequence normalize", {"rollout_is": "sequence", "rollout_is_threshold": 1.2, "rollout_is_batch_normalize": True}, importance("sequence_sum", "sequence_sum", "truncate", None, 1.2, clamp, True)),
        ):
            verl_case(f"clipped, {label}", core_algos.compute_policy_loss_vanilla, ppo, "token-mean", name, {"importance": ours}, weights, clip_ratio_c=1.3)
            correction = ActorConfig(loss_type="reinforce", **weights)
            verl_case(f"reinforce, bypass {label}", core_algos.compute_policy_loss_bypass_mode, {"kind": "reinforce"}, "token-mean", name, {"importance": ours, "bypass": True}, old="sampling_log_probs", policy_loss={"rollout_correction": correction})
        for statistic, settings in (("token_k1", {"low": math.log(0.8), "high": math.log(1.2)}), ("seq_mean_k3", {"high": 0.05})):
            threshold = "0.8_1.2" if "k1" in statistic else 0.05
            correction = ActorConfig(loss_type="ppo_clip", rollout_is=None, rollout_rs=statistic, rollout_rs_threshold=threshold)
            case = {"bypass": True, "selection": {"rejection_mask": {"statistic": statistic[-2:], "level": "token" if "token" in statistic else "sequence_mean", **settings}}}
            verl_case("clipped, bypass and rejection", core_algos.compute_policy_loss_bypass_mode, ppo, "token-mean", name, case, old="sampling_log_probs", clip_ratio_c=1.3, policy_loss={"rollout_correction": correction})
    for name in ("tokens", "near"):
        for low, high in ((3e-4, 4e-4), (0.05, 0.05)):
            gspo = clipped(low, high, "sequence_mean_token_gradient", {"kind": "within", "low": -20.0, "high": 10.0})
            verl_case("clipped sequence_mean_token_gradient", core_algos.compute_policy_loss_gspo, gspo, "seq-mean-token-mean", name, clip_ratio_low=low, clip_ratio_high=high)
    for name in ("rows", "rows_full", "tokens"):
        gmpo = {"kind": "gmpo", "low": 0.2, "high": 0.28, "clamp": OFF}
        if name != "tokens":
            masked = {"counting_masked_rows": True}
            verl_case("gmpo", core_algos.compute_policy_loss_geo_mean, gmpo, "seq-mean-token-mean", name, masked)
            ours = importance("token", "token", "truncate", None, 1.2, clamp)
            verl_case("gmpo", core_algos.compute_policy_loss_geo_mean, gmpo, "seq-mean-token-mean", name, {**masked, "importance": ours}, {"rollout_is": "token", "rollout_is_threshold": 1.2})
        else:
            verl_case("gmpo", core_algos.compute_policy_loss_geo_mean, gmpo, "seq-mean-token-mean", name, {"counting_masked_rows": True})
    for name in ("tokens", "tokens_full"):
        for mode, reduced in VERL_REDUCTIONS.items():
            given = tensors(name, grad="values")
            loss = core_algos.compute_value_loss(given["values"], given["returns"], given["old_values"], given["mask"], 0.2, mode)[0]
            add("value", "clipped_value_loss", "verl core_algos", name, loss, given["values"], reduction=reduced, clip=0.2)
            given = tensors(name, grad="entropy")
            loss = -0.03 * core_algos.agg_loss(given["entropy"], given["mask"], mode)
            add("entropy", "entropy_bonus", "verl core_algos", name, loss, given["entropy"], reduction=reduced, entropy_coef=0.03)
        # Every rejection statistic.
        given = tensors(name)
        for option in sorted(rollout_corr_helper.SUPPORTED_ROLLOUT_RS_OPTIONS):
            level, kind = option.rsplit("_", 1)
            levels = {"token": "token", "seq_sum": "sequence_sum", "seq_mean": "sequence_mean", "seq_max": "sequence_max"}
            for limit in (0.02, 0.15, 0.6):
                spec, ours = (f"{1 - limit}_{1 + limit}", {"low": math.log(1 - limit), "high": math.log(1 + limit)}) if kind == "k1" else (limit, {"high": limit})
                kept = rollout_corr_helper.compute_rollout_rejection_mask(given["old_log_probs"] - given["sampling_log_probs"], given["mask"], option, spec)[0]
                add("rejection", f"rejection {kind} {levels[level]}", "verl rollout_corr_helper", name, rejection={"statistic": kind, "level": levels[level], **ours}, keep=kept.flatten().bool().tolist())


trl_rows()
openrlhf_rows()
verl_rows()
fixture = {"versions": {"TRL": trl.__version__, "OpenRLHF": version(openrlhf_folder.parent.parent, "openrlhf"), "verl": version(verl_folder, "verl"), "torch": torch.__version__}}
shown = {}
for name, given in batches.items():
    arrays = {key: given[key].flatten().tolist() for key in ARRAYS}
    shown[name] = {"width": int(given["mask"].shape[1]), **arrays, "mask": given["mask"].flatten().tolist()}
lines = lambda items: ",\n".join(json.dumps(item) for item in items)
text = f'{{"versions": {json.dumps(fixture["versions"])},\n"batches": {{\n'
text += ",\n".join(f"{json.dumps(name)}: {json.dumps(given)}" for name, given in shown.items())
text += f'}},\n"cases": [\n{lines(cases)}\n]}}\n'
Path(__file__).with_suffix(".json").write_text(text)
print(len(cases), "cases", len(text), "bytes")

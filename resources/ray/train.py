"""Trains OLMoE in transformers with Ray Train and PyTorch FSDP, on the batches of a MoE Workbench run in their order.

    python train.py            in (or with the path of) a job folder that the workbench wrote

It reads job.json, order.npy (the instances of every step; -1 - i: instance i without a loss), learning-rates.npy, tokens/ (raw little-endian ids)
and initial/ (the first weights). It writes metrics.jsonl (a line per step) and checkpoints/step-N (a Hugging Face folder, and the moments of AdamW to go
on from). A file `stop` in the folder makes it save and end after the step under way. The folder must be visible to every worker.
"""

import json
import math
import os
import shutil
import sys
import time

import numpy as np
import ray.train
import torch
import torch.distributed as dist
import torch.nn.functional as F
from ray.train.torch import TorchTrainer, get_device
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict, get_optimizer_state_dict, set_optimizer_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from transformers import OlmoeForCausalLM

NO_TARGET = -100
WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


class Instances:
    """Consecutive chunks of the token files of one split, numbered through over its domains."""

    def __init__(self, folder, split, length, eos, dtype):
        self.files = [np.memmap(os.path.join(folder, domain["file"]), dtype, "r") if domain["tokens"] else np.empty(0, dtype) for domain in split]
        self.firsts, self.length, self.eos = [domain["first"] for domain in split], length, eos

    def batch(self, numbers, device):
        """Ids and next-token targets inside each instance, [rows, length]; a negative number is an instance without targets."""
        ids = np.full((len(numbers), self.length), self.eos, np.int64)
        targets = np.full((len(numbers), self.length), NO_TARGET, np.int64)
        for row, number in enumerate(numbers):
            instance = int(number if number >= 0 else -1 - number)
            domain = int(np.searchsorted(self.firsts, instance, "right")) - 1
            at = (instance - self.firsts[domain]) * self.length
            tokens = self.files[domain][at : at + self.length]
            ids[row, : len(tokens)] = tokens
            if number >= 0:
                targets[row, : len(tokens) - 1] = tokens[1:]
        return torch.from_numpy(ids).to(device), torch.from_numpy(targets).to(device)


class Router:
    """Keeps what the routers say in a forward pass, and makes the auxiliary losses of it as the workbench does."""

    def __init__(self, model, per_token):
        self.logits, self.per_token = [], per_token
        for layer in model.model.layers:
            layer.mlp.gate.register_forward_hook(lambda _module, _inputs, out: self.logits.append(out[0] if isinstance(out, tuple) else out))

    def losses(self):
        """(load balance, router z, counts [layers, experts]): balance is the mean over layers of E·Σ f·P with f of all workers' tokens, z of logsumexp²."""
        logits = torch.stack(self.logits).float()
        self.logits.clear()
        probabilities = logits.softmax(-1)
        experts = logits.shape[-1]
        counts = torch.stack([chosen.flatten().bincount(minlength=experts) for chosen in probabilities.topk(self.per_token).indices]).float()
        dist.all_reduce(counts)
        shares = counts / counts.sum(-1, keepdim=True)
        balance = experts * (shares * probabilities.mean(1)).sum(-1).mean()
        return balance, logits.logsumexp(-1).square().mean(), counts


def parameter_groups(model, o):
    """Weight decay of every parameter, unless the recipe spares norms or the input embedding."""
    spared = lambda name: not o["decayNorms"] if "norm" in name else name.endswith("embed_tokens.weight") and not o["decayEmbeddings"]
    named = list(model.named_parameters())
    groups = [{"params": [p for name, p in named if spared(name) == free], "weight_decay": 0.0 if free else o["weightDecay"]} for free in (False, True)]
    return [group for group in groups if group["params"]]


def save(model, optimizer, job, step):
    """checkpoints/step-N, which is whole or not there."""
    weights, moments = get_model_state_dict(model, options=WHOLE), get_optimizer_state_dict(model, optimizer, options=WHOLE)
    if dist.get_rank() == 0:
        target = os.path.join(job["folder"], "checkpoints", f"step-{step}")
        temporary = f"{target}.incomplete"
        shutil.rmtree(temporary, ignore_errors=True)
        model.save_pretrained(temporary, state_dict=weights)
        # The class that FSDP makes has a name of its own, which is not the model's.
        for name in ("config.json", "tokenizer.json"):
            shutil.copyfile(os.path.join(job["folder"], "initial", name), os.path.join(temporary, name))
        torch.save(moments, os.path.join(temporary, "optimizer.pt"))
        shutil.rmtree(target, ignore_errors=True)
        os.rename(temporary, target)
    dist.barrier()


def train(job):
    rank, workers, device = dist.get_rank(), dist.get_world_size(), get_device()
    folder, length, o, first_step = job["folder"], job["sequenceLength"], job["optimizer"], job["startStep"]
    begun = os.path.join(folder, "checkpoints", f"step-{first_step}") if first_step > 0 else os.path.join(folder, "initial")
    model = OlmoeForCausalLM.from_pretrained(begun, dtype=torch.float32)
    router = Router(model, job["expertsPerToken"])
    mesh = init_device_mesh(device.type, (workers,))
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    optimizer = torch.optim.AdamW(parameter_groups(model, o), lr=0.0, betas=tuple(o["betas"]), eps=o["eps"])
    if first_step > 0:
        moments = torch.load(os.path.join(begun, "optimizer.pt"), map_location="cpu", weights_only=True)
        set_optimizer_state_dict(model, optimizer, moments, options=StateDictOptions(full_state_dict=True))
    order = np.load(os.path.join(folder, "order.npy"), mmap_mode="r")
    rates = np.load(os.path.join(folder, "learning-rates.npy"), mmap_mode="r")
    training, held_out = (Instances(folder, job[split], length, job["eosId"], job["tokenType"]) for split in ("train", "validation"))
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=job["precision"] == "mixed")
    metrics = open(os.path.join(folder, "metrics.jsonl"), "a", encoding="utf-8") if rank == 0 else None

    def tell(line):
        if rank == 0:
            metrics.write(json.dumps(line) + "\n")
            metrics.flush()
            print(json.dumps({key: value for key, value in line.items() if key != "expertCounts"}), flush=True)

    def cross_entropy(numbers, source):
        """Sum over this worker's rows."""
        ids, targets = source.batch(numbers.reshape(workers, -1)[rank], device)
        with autocast:
            logits = model(input_ids=ids, use_cache=False).logits
        return F.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=NO_TARGET, reduction="sum"), (targets != NO_TARGET).sum()

    @torch.no_grad()
    def evaluate():
        scalars, rows = {}, job["rowsPerMicroBatch"]
        for domain in job["heldOut"]:
            total = torch.zeros(2, device=device)
            for at in range(0, len(domain["instances"]), rows):
                numbers = domain["instances"][at : at + rows]
                loss, count = cross_entropy(np.array(numbers + [-1 - numbers[0]] * (rows - len(numbers))), held_out)
                router.logits.clear()
                total += torch.stack([loss, count.float()])
            dist.all_reduce(total)
            scalars[f"validation/{domain['name']}"] = (total[0] / total[1]).item()
        return {**scalars, "validation": sum(scalars.values()) / len(scalars)} if scalars else {}

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    tell({"device": {"name": f"{workers} × {name}", "engine": f"Ray {ray.__version__}, PyTorch {torch.__version__}"}})
    seconds, tokens = job["startSeconds"], job["startTokens"]
    if first_step == 0:
        tell({"step": 0, "tokens": 0, "elapsedMs": 0, "scalars": evaluate(), "expertCounts": None})
    for step in range(first_step + 1, job["steps"] + 1):
        started = time.perf_counter()
        numbers, rate = order[step - 1], float(rates[step - 1])
        targets = max(1, int((numbers >= 0).sum()) * (length - 1))
        micros = numbers.reshape(-1, job["rowsPerMicroBatch"])
        sums, counts = torch.zeros(4, device=device), 0
        for micro in micros:
            loss, _ = cross_entropy(micro, training)
            balance, z, routed = router.losses()
            # FSDP takes the mean of the workers' gradients; the cross-entropy is a sum over them.
            auxiliary = job["loadBalanceWeight"] * balance + job["routerZWeight"] * z
            (loss * workers / targets + auxiliary / len(micros)).backward()
            sums[:3] += torch.stack([loss / targets, balance / len(micros) / workers, z / len(micros) / workers]).detach()
            counts = counts + routed
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), o["clip"] or math.inf).full_tensor().item()
        sums[3] = float(rank == 0 and os.path.exists(os.path.join(folder, "stop")))
        dist.all_reduce(sums)
        cross, balance, z, stop = sums.tolist()
        if not math.isfinite(cross + balance + z + norm):
            raise RuntimeError(f"step {step}: loss {cross}, load balance {balance}, router z {z}, gradient norm {norm}: not finite")
        for group in optimizer.param_groups:
            group["lr"] = rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        spent = time.perf_counter() - started
        seconds, tokens = seconds + spent, tokens + numbers.size * length
        is_last = step == job["steps"]
        due = lambda every: is_last or (every > 0 and step % every == 0)
        scalars = {"loss": cross, "loadBalance": balance, "routerZ": z, "learningRate": rate, "gradNorm": norm, "tokensPerSecond": numbers.size * length / spent}
        held = evaluate() if due(job["evaluateEverySteps"]) else {}
        tell({"step": step, "tokens": tokens, "elapsedMs": round(seconds * 1000), "scalars": {**scalars, **held}, "expertCounts": [int(count) for count in counts.flatten().tolist()]})
        if due(job["checkpointEverySteps"]) or stop > 0:
            save(model, optimizer, job, step)
            ray.train.report({"step": step, **scalars})
        if stop > 0:
            break


def main():
    folder = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(__file__))
    with open(os.path.join(folder, "job.json"), encoding="utf-8") as file:
        job = {**json.load(file), "folder": folder}
    gpus = job["gpusPerWorker"]
    scaling = ray.train.ScalingConfig(num_workers=job["workers"], use_gpu=gpus > 0, resources_per_worker={"CPU": 1, **({"GPU": gpus} if gpus > 0 else {})})
    TorchTrainer(train, train_loop_config=job, scaling_config=scaling, run_config=ray.train.RunConfig(name="ray", storage_path=folder)).fit()


if __name__ == "__main__":
    main()

"""transformers' OlmoeForCausalLM as torch_peer.py's training step and loss. One model a process, so that its memory can be measured.
transformers is imported when a model is opened, which takes seconds that products need not wait for."""
import math
import resource
import time
import warnings

import torch
import torch.nn.functional as F

warnings.filterwarnings("ignore")  # Of the compiler, about transformers' own code.
model, optimizer, tokens = None, None, None
run = None


def open_model(shape, dtype, compiled):
    """A model of random weights that trains on random tokens; takes the first steps, which compile. Gives their seconds."""
    global model, optimizer, tokens, run
    from transformers import OlmoeConfig, OlmoeForCausalLM

    width, layers, experts, per_token, ffn, vocabulary, sequences, sequence = shape
    config = OlmoeConfig(
        vocab_size=vocabulary, hidden_size=width, intermediate_size=ffn, num_hidden_layers=layers, num_attention_heads=width // 64,
        num_key_value_heads=width // 64, num_experts=experts, num_experts_per_tok=per_token, max_position_embeddings=sequence,
        router_aux_loss_coef=0.01, output_router_logits=True, norm_topk_prob=False, use_cache=False, tie_word_embeddings=False,
        pad_token_id=None, bos_token_id=None, eos_token_id=None,
    )
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm"
    model = OlmoeForCausalLM(config).train()
    if dtype == "bf16":
        model = model.bfloat16()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, betas=(0.9, 0.95), weight_decay=0.1, fused=True)
    tokens = torch.randint(0, vocabulary, (sequences, sequence))
    run = torch.compile(model) if compiled else model
    return step() + step()


def step():
    """One training step; its seconds."""
    start = time.perf_counter()
    run(input_ids=tokens, labels=tokens).loss.backward()
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return time.perf_counter() - start


def peak_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def auxiliary(router_logits, top_k):
    """Load balance and router z as we define them: per layer, E * sum of f_i P_i with f summing to 1, and mean of logsumexp^2; means
    over layers. (transformers' own pools all layers and has f sum to k.)"""
    balance, z = 0.0, 0.0
    for logits in router_logits:
        probabilities = logits.softmax(-1)
        counts = F.one_hot(probabilities.topk(top_k, dim=-1).indices, probabilities.shape[-1]).sum((0, 1)).float()
        balance = balance + probabilities.shape[-1] * (counts / counts.sum() * probabilities.mean(0)).sum()
        z = z + logits.logsumexp(-1).pow(2).mean()
    return balance / len(router_logits), z / len(router_logits)


def loss(folder, text, tokens_per_step, sequence, averaged, learning_rate, warmup, betas, eps, weight_decay, clip, balance_weight, z_weight):
    """Trains the float32 model of `folder` on the steps of the file `text`, int32 [steps, tokens + 1]; mean cross-entropy of the last."""
    from pathlib import Path

    from transformers import OlmoeForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    trained = OlmoeForCausalLM.from_pretrained(folder, dtype=torch.float32).train()
    adamw = torch.optim.AdamW(trained.parameters(), lr=learning_rate, betas=tuple(betas), eps=eps, weight_decay=weight_decay, fused=True)
    steps = torch.frombuffer(bytearray(Path(text).read_bytes()), dtype=torch.int32).long().unflatten(0, (-1, tokens_per_step + 1))
    losses = []
    for count, line in enumerate(steps, 1):
        for group in adamw.param_groups:
            group["lr"] = learning_rate * min(1, count / warmup)
        out = trained(input_ids=line[:-1].unflatten(0, (-1, sequence)), output_router_logits=True, use_cache=False)
        cross_entropy = F.cross_entropy(out.logits.flatten(0, 1), line[1:])
        balance, z = auxiliary(out.router_logits, trained.config.num_experts_per_tok)
        (cross_entropy + balance_weight * balance + z_weight * z).backward()
        torch.nn.utils.clip_grad_norm_(trained.parameters(), clip)
        adamw.step()
        adamw.zero_grad(set_to_none=True)
        losses.append(cross_entropy.item())
    return math.fsum(losses[-averaged:]) / averaged

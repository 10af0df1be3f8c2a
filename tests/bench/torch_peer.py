"""PyTorch as a peer of the benchmark. Says its versions on one line, then reads one question a line, a JSON object, and answers with a
number: seconds per run, or what the function that `op` names says it gives. Operands of the last two shapes are kept.

usage: python torch_peer.py THREADS
"""
import importlib.metadata
import json
import sys
import time

try:
    import torch
except ImportError:
    sys.exit(3)
import torch.nn.functional as F

DTYPES = {"bf16": torch.bfloat16, "f32": torch.float32}
made = {}


def once(key, make):
    """What `make` gives for `key`; the second other key after it frees it."""
    if key not in made:
        for oldest in list(made)[:-1]:
            del made[oldest]
        made[key] = make()
    return made[key]


def seconds_of(run, repeats):
    run()
    start = time.perf_counter()
    for _ in range(repeats):
        run()
    return (time.perf_counter() - start) / repeats


def noise(*shape, dtype):
    return (torch.rand(*shape) - 0.5).to(dtype)


@torch.no_grad()
def dense(dtype, shape, repeats, packed=False):
    """y = x W^T; packed: W in the layout that oneDNN prefers, brought there beforehand."""
    rows, out, width = shape

    def make():
        x, weight, y = noise(rows, width, dtype=DTYPES[dtype]), noise(out, width, dtype=DTYPES[dtype]), torch.empty(rows, out, dtype=DTYPES[dtype])
        if not packed:
            return lambda: torch.mm(x, weight.t(), out=y)
        kept = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
        return lambda: torch.ops.mkldnn._linear_pointwise(x, kept, None, "none", [], "")

    return seconds_of(once((dtype, *shape, packed), make), repeats)


@torch.no_grad()
def grouped(dtype, bounds, tokens, shape, repeats):
    """Rows of x gathered expert by expert, then one product per expert: `bounds` has E + 1 entries."""
    out, width = shape

    def make():
        x, weight = noise(tokens, width, dtype=DTYPES[dtype]), noise(len(bounds) - 1, out, width, dtype=DTYPES[dtype])
        rows = torch.arange(bounds[-1]) * 7919 % tokens
        offsets = torch.tensor(bounds[1:], dtype=torch.int32)
        return lambda: F.grouped_mm(x[rows], weight.transpose(1, 2), offs=offsets)

    return seconds_of(once((dtype, tokens, len(bounds), *shape), make), repeats)


def attention(dtype, tokens, sequence, heads, width, repeats, backward):
    """Causal; q, k and v lie in memory as projections leave them, [batch, position, head, width]."""

    def make():
        q, k, v, d_o = (noise(tokens // sequence, sequence, heads, width, dtype=DTYPES[dtype]).transpose(1, 2).requires_grad_(backward) for _ in range(4))
        if not backward:
            return lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True)
        o = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return lambda: torch.autograd.grad(o, (q, k, v), d_o, retain_graph=True)

    return seconds_of(once((dtype, sequence, backward), make), repeats)


def main():
    torch.set_num_threads(int(sys.argv[1]))
    torch.manual_seed(0)
    ops = {"dense": dense, "grouped": grouped, "attention": attention}
    try:
        transformers = importlib.metadata.version("transformers")
        import torch_olmoe

        ops |= {"open": torch_olmoe.open_model, "step": torch_olmoe.step, "peak_bytes": torch_olmoe.peak_bytes, "loss": torch_olmoe.loss}
    except importlib.metadata.PackageNotFoundError:
        transformers = ""
    print(json.dumps({"torch": torch.__version__, "transformers": transformers}), flush=True)
    for line in sys.stdin:
        question = json.loads(line)
        print(ops[question.pop("op")](**question), flush=True)


main()

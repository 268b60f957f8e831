"""Merges an adapter of each rarer kind into a layer of F32 and of F16, and into a Conv1D, with PEFT; prints digests. By hand:

    python3 -m venv v && v/bin/pip install torch transformers peft safetensors
    OMP_NUM_THREADS=1 v/bin/python test/oracle/kinds_digests.py > test/fixtures/kinds-digests.json

Every float is `((i * 7919 + t * 104729) % 2003 - 1001) / 4096` for the i-th element of the t-th tensor, which F16 holds
exactly, so that a test can make the same tensors again; whole numbers are listed. The sums of small products depend on
how many threads share them: one thread is what Graftwork's arithmetic is.
"""

import hashlib
import json
import sys
import tempfile

import peft
import torch
from peft import PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers.pytorch_utils import Conv1D

ROWS, COLUMNS = 56, 40
TARGETS = ["q_proj", "c_attn"]
KINDS = {
    "SHIRA": lambda: peft.ShiraConfig(r=1, target_modules=TARGETS, random_seed=3),
    "SUPERTUNING": lambda: peft.SupertuningConfig(target_modules=TARGETS, sparsity=0.98),
    "DELORA": lambda: peft.DeloraConfig(r=5, target_modules=TARGETS),
    "HIRA": lambda: peft.HiraConfig(r=24, target_modules=TARGETS),
    "GLORA": lambda: peft.GloraConfig(r=5, target_modules=TARGETS),
    "VBLORA": lambda: peft.VBLoRAConfig(r=3, num_vectors=11, vector_length=8, topk=3, target_modules=TARGETS),
    "RANDLORA": lambda: peft.RandLoraConfig(r=7, randlora_alpha=9, target_modules=TARGETS),
    "GRALORA": lambda: peft.GraloraConfig(r=24, gralora_k=4, hybrid_r=5, target_modules=TARGETS),
    "TINYLORA": lambda: peft.TinyLoraConfig(r=4, u=9, target_modules=TARGETS),
    "PEANUT": lambda: peft.PeanutConfig(r=24, scaling=0.7, target_modules=TARGETS),
    "DEFT": lambda: peft.DeftConfig(r=16, target_modules=TARGETS),
}


CONV1D = ("HIRA", "VBLORA", "RANDLORA", "GRALORA", "TINYLORA", "DEFT")


class Attention(torch.nn.Module):
    def __init__(self, layer: str):
        super().__init__()
        setattr(self, layer, torch.nn.Linear(COLUMNS, ROWS, bias=False) if layer == "q_proj" else Conv1D(ROWS, COLUMNS))


class Model(torch.nn.Module):
    def __init__(self, layer: str):
        super().__init__()
        self.attn = Attention(layer)


def numbers(shape, t: int) -> torch.Tensor:
    i = torch.arange(torch.Size(shape).numel(), dtype=torch.int64)
    return (((i * 7919 + t * 104729) % 2003 - 1001).to(torch.float32) / 4096).reshape(shape)


def model(layer: str, dtype: torch.dtype) -> Model:
    made = Model(layer).to(dtype)
    weight = getattr(made.attn, layer).weight
    with torch.no_grad():
        weight.copy_(numbers(weight.shape, 0))
    return made


def end_of(name: str) -> str:
    """Shared tensors have the same numbers wherever they are stored."""
    return name.removeprefix("base_model.").removeprefix("model.attn.").split("proj.")[-1].split("c_attn.")[-1]


def case(kind: str, layer: str, dtype: torch.dtype) -> dict:
    with tempfile.TemporaryDirectory() as folder:
        get_peft_model(model(layer, dtype), KINDS[kind]()).save_pretrained(folder)
        path = f"{folder}/adapter_model.safetensors"
        tensors, listed = load_file(path), {}
        ends = sorted({end_of(name) for name in tensors})
        for name, tensor in tensors.items():
            t = ends.index(end_of(name)) + 1
            listed[name] = {"shape": list(tensor.shape)}
            if not tensor.is_floating_point():
                listed[name] |= {"dtype": str(tensor.dtype), "values": tensor.flatten().tolist()}
            elif name.endswith(".zeros"):
                listed[name]["zeros"] = True
            else:
                listed[name]["t"] = t
                tensors[name] = numbers(tensor.shape, t)
        save_file(tensors, path, {"format": "pt"})
        whole = PeftModel.from_pretrained(model(layer, dtype), folder).merge_and_unload()
        config = json.load(open(f"{folder}/adapter_config.json"))
    merged = getattr(whole.attn, layer).weight
    assert merged.dtype == dtype
    digest = hashlib.sha256(merged.detach().contiguous().numpy().tobytes()).hexdigest()
    kept = {name: value for name, value in config.items() if name not in ("auto_mapping", "base_model_name_or_path")}
    name = {torch.float32: "F32", torch.float16: "F16"}[dtype]
    return {"kind": kind, "layer": layer, "dtype": name, "config": kept, "tensors": listed, "sha256": digest}


layers = {kind: ["q_proj", "c_attn"] if kind in CONV1D else ["q_proj"] for kind in KINDS}
cases = [case(kind, layer, dtype) for kind in KINDS for layer in layers[kind] for dtype in (torch.float32, torch.float16)]
versions = {"torch": torch.__version__, "peft": peft.__version__}
json.dump({"rows": ROWS, "columns": COLUMNS, "versions": versions, "cases": cases}, sys.stdout, separators=(",", ":"))
print()

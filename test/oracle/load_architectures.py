"""Loads one merged output of every architecture with plain transformers. Run by hand:

    python3 -m venv v && v/bin/pip install torch transformers peft safetensors
    v/bin/python test/oracle/load_architectures.py > test/oracle/load_architectures.txt

Merges cases of test/fixtures/merge with the command line and opens each output with from_pretrained (no adapter, no
trust_remote_code). No key may be missing, unexpected or of another shape. More adapters are made here, or put on another base:

- the classifier case on a language model, which becomes a classifier with as many labels;
- factors on the embedding of every model that ties it: the output stores a head of its own, which must be the base's
  embedding after loading while the embedding has changed;
- replicated layers, whose logits must be those of PEFT's model before its merge, which adds every copy's change to all.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
CASES = ROOT / "test" / "fixtures" / "merge"
NAMES = """llama-qv-r8 llama-sharded llama-tied-embed llama-tied-lm-head llama-tied-embed-head gpt2-c-attn gpt2-bare-keys
gpt_neox-linear gemma2-linear gemma3-linear granite-linear mistral-linear mixtral-experts olmo2-linear phi3-fused
qwen2-linear qwen3-linear qwen3_moe-experts smollm3-linear bert-score llama-score vit-conv-linear resnet-conv-lora
llama-vocab-resized llama-save-embed-head""".split()
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight")


def graftwork(base: pathlib.Path, adapter: pathlib.Path, out: pathlib.Path, *more: str) -> None:
    command = ["node", "src/cli/main.ts", "merge", "--base", base, "--adapter", adapter, "--out", out, "--json", *more]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])


def load(folder: pathlib.Path):
    config = json.loads((folder / "config.json").read_text())
    cls = getattr(transformers, config["architectures"][0])
    return cls.from_pretrained(folder, output_loading_info=True)


def wrong_keys(info: dict) -> dict[str, list[str]]:
    kinds = {"missing": "missing_keys", "unexpected": "unexpected_keys", "mismatched": "mismatched_keys"}
    return {kind: sorted(map(str, info[name])) for kind, name in kinds.items()}


def verdict(label: str, info: dict, *more: tuple[str, bool]) -> bool:
    keys = wrong_keys(info)
    ok = not any(keys.values()) and all(good for _, good in more)
    facts = [f"{len(found)} {kind}{' ' + str(found[:3]) if found else ''}" for kind, found in keys.items()]
    facts += [text if good else f"NOT {text}" for text, good in more]
    print(f"{label}: {'ok' if ok else 'WRONG'}; {', '.join(facts)}", flush=True)
    return ok


def write_adapter(folder: pathlib.Path, config: dict, tensors: dict[str, torch.Tensor]) -> None:
    folder.mkdir()
    defaults = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 1, "lora_alpha": 1, "bias": "none"}
    (folder / "adapter_config.json").write_text(json.dumps({**defaults, **config}))
    save_file({f"base_model.model.{name}": value for name, value in tensors.items()}, folder / "adapter_model.safetensors")


def merged_case(name: str, work: pathlib.Path) -> bool:
    case = json.loads((CASES / name / "case.json").read_text())
    out = work / name
    graftwork(CASES / name / case["base"], CASES / name / case["adapter"], out)
    _, info = load(out)
    return verdict(f"{name} ({info_class(out)})", info)


def info_class(folder: pathlib.Path) -> str:
    return json.loads((folder / "config.json").read_text())["architectures"][0]


def classifier(work: pathlib.Path) -> bool:
    """A head of three labels for a base that has none."""
    out = work / "classifier"
    graftwork(CASES.parent / "models" / "llama-bf16", CASES / "llama-score" / "adapter", out)
    model, info = load(out)
    adapter = load_file(CASES / "llama-score" / "adapter" / "adapter_model.safetensors")
    score = adapter["base_model.model.score.weight"].to(model.score.weight.dtype)
    return verdict(
        f"llama-score on a language model ({info_class(out)})",
        info,
        ("3 labels", model.config.num_labels == 3),
        ("the adapter's head", torch.equal(model.score.weight, score)),
    )


def untied(base: pathlib.Path, work: pathlib.Path) -> bool:
    """Factors on the embedding alone."""
    model, _ = load(base)
    embedding = model.get_input_embeddings()
    module = next(name for name, found in model.named_modules() if found is embedding)
    rows, columns = embedding.weight.shape
    torch.manual_seed(0)
    factors = {f"{module}.lora_embedding_A": torch.randn(1, rows), f"{module}.lora_embedding_B": torch.randn(columns, 1)}
    adapter, out = work / f"{base.name}-embedding", work / f"{base.name}-untied"
    write_adapter(adapter, {"target_modules": [module]}, factors)
    graftwork(base, adapter, out)
    merged, info = load(out)
    head, changed = merged.get_output_embeddings().weight, merged.get_input_embeddings().weight
    return verdict(
        f"{base.name}, embedding adapted",
        info,
        ("head as before", torch.equal(head, embedding.weight)),
        ("embedding changed", not torch.equal(changed, embedding.weight)),
    )


def replicated(work: pathlib.Path) -> bool:
    """llama-qv-r8 on layers 0, 1, 1, the third with the first one's factors."""
    base, case = CASES.parent / "models" / "llama-fp32", CASES / "llama-qv-r8"
    factors = load_file(case / "adapter" / "adapter_model.safetensors")
    third = {name.replace(".layers.0.", ".layers.2."): value.clone() for name, value in factors.items() if ".layers.0." in name}
    config = json.loads((case / "adapter" / "adapter_config.json").read_text())
    adapter, out = work / "replicated-adapter", work / "replicated"
    plain = {name.removeprefix("base_model.model."): value for name, value in {**factors, **third}.items()}
    write_adapter(adapter, {**config, "layer_replication": [[0, 2], [1, 2]]}, plain)
    graftwork(base, adapter, out)
    merged, info = load(out)
    reference = PeftModel.from_pretrained(load(base)[0], adapter)
    ids = torch.arange(1, 33).reshape(1, -1)
    with torch.no_grad():
        ours, theirs = merged(ids).logits, reference(ids).logits
        doubled = reference.merge_and_unload()(ids).logits
    far = (ours - theirs).abs().max().item()
    return verdict(
        "llama-fp32, layers 0, 1, 1",
        info,
        ("3 layers", merged.config.num_hidden_layers == 3),
        (f"logits within {far:.0e} of the adapter before merging", far < 1e-5),
        ("other logits than PEFT's merge", (doubled - theirs).abs().max().item() > 1e-3),
    )


def main() -> int:
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    good = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        for name in sys.argv[1:] or NAMES:
            try:
                good.append(merged_case(name, work))
            except RuntimeError as error:
                good.append(False)
                print(f"{name}: NOT MERGED; {error}", flush=True)
        if not sys.argv[1:]:
            for base in sorted((CASES.parent / "models").iterdir()):
                config = json.loads((base / "config.json").read_text())
                class_name = config["architectures"][0]
                scores_tokens = class_name.endswith(("CausalLM", "LMHeadModel", "ConditionalGeneration"))
                if config.get("tie_word_embeddings") is True and scores_tokens:
                    good.append(untied(base, work))
            good.append(classifier(work))
            good.append(replicated(work))
    print(f"{sum(good)} of {len(good)} as they should be")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

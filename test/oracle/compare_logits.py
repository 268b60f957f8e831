"""Compares `graftwork logits` with transformers, and beside adapters with PEFT, over small random models. Run by hand:

    python3 -m venv v && v/bin/pip install torch transformers peft safetensors
    v/bin/python test/oracle/compare_logits.py > test/oracle/compare_logits.txt

Each model is made here from a seed with an unusual configuration: heads wider or narrower than the hidden state asks
for, odd widths and vocabularies, one key head for all, windows on some layers, every kind of positions on both sides
of its original length, experts, biases, classifiers, storage in 16 bits and in several files. It is run on texts of 1
to 100 tokens. A line says how far the logits are from transformers' float32 ones at most, how far those are from
transformers' float64 ones, and the largest relative error of a hidden state. Beside adapters PEFT's un-merged model
is the measure. Bounds: 2e-5 for logits, 1e-5 for hidden states.
"""

import copy
import pathlib
import subprocess
import sys
import tempfile
import warnings

import torch
import transformers
from peft import IA3Config, LoHaConfig, LoraConfig, OFTConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification

warnings.filterwarnings("ignore")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

ROOT = pathlib.Path(__file__).resolve().parents[2]
LENGTHS = (1, 2, 7, 33, 100)
MOST_LOGITS, MOST_HIDDEN = 2e-5, 1e-5

TOKENS = dict(vocab_size=101, pad_token_id=0, bos_token_id=1, eos_token_id=2)
LLAMA = dict(TOKENS, hidden_size=40, intermediate_size=52, num_hidden_layers=3, num_attention_heads=4)
LLAMA |= dict(num_key_value_heads=2, max_position_embeddings=128)
GPT2 = dict(TOKENS, n_embd=40, n_layer=3, n_head=4, n_positions=128)
NEOX = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
BERT = dict(hidden_size=40, intermediate_size=52, num_hidden_layers=3, num_attention_heads=4, vocab_size=101)
MIXED = ["sliding_attention", "full_attention", "sliding_attention"]
SHORT, LONG = [1.0, 1.1, 1.2, 1.3], [1.0, 2.0, 4.0, 8.0]


def turned(kind: str, **more) -> dict:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 10000.0, **more}}


YARN = dict(factor=4.0, original_max_position_embeddings=32)
LLAMA3 = dict(factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LONGROPE = dict(original_max_position_embeddings=32, short_factor=SHORT, long_factor=LONG)
GRANITE = dict(embedding_multiplier=12.0, logits_scaling=8.0, residual_multiplier=0.22, attention_multiplier=0.02)
MOE = dict(num_experts=6, moe_intermediate_size=11, head_dim=10)

# name: model_type, fields, then how it is stored
MODELS = {
    "llama, narrow heads": ("llama", LLAMA | dict(head_dim=6)),
    "llama, wide heads, biases": ("llama", LLAMA | dict(head_dim=18, attention_bias=True, mlp_bias=True)),
    "llama, one key head, one layer": ("llama", LLAMA | dict(num_key_value_heads=1, num_hidden_layers=1)),
    "llama, 8 heads a key head": ("llama", LLAMA | dict(hidden_size=48, num_attention_heads=16, head_dim=4)),
    "llama, tied, 7 tokens": ("llama", LLAMA | dict(tie_word_embeddings=True, vocab_size=7, intermediate_size=13)),
    "llama, relu²": ("llama", LLAMA | dict(hidden_act="relu2")),
    "llama, bfloat16": ("llama", LLAMA, dict(dtype="bfloat16")),
    "llama, float16, shards": ("llama", LLAMA, dict(dtype="float16", shards="20KB")),
    "llama, classifier": ("llama", LLAMA | dict(num_labels=5), dict(classes=True)),
    "llama, linear": ("llama", LLAMA | turned("linear", factor=3.5)),
    "llama, dynamic": ("llama", LLAMA | dict(max_position_embeddings=32) | turned("dynamic", factor=2.0)),
    "llama, llama3": ("llama", LLAMA | turned("llama3", **LLAMA3)),
    "llama, yarn": ("llama", LLAMA | dict(head_dim=16) | turned("yarn", **YARN)),
    "llama, yarn, mscale": ("llama", LLAMA | turned("yarn", **YARN, mscale=0.7, mscale_all_dim=1.0, beta_fast=16)),
    "llama, yarn, no truncation": ("llama", LLAMA | turned("yarn", **YARN, attention_factor=1.3, truncate=False)),
    "llama, longrope": ("llama", LLAMA | dict(head_dim=8) | turned("longrope", factor=4.0, **LONGROPE)),
    "mistral, window of 5": ("mistral", LLAMA | dict(sliding_window=5, head_dim=14)),
    "mistral, window of 1": ("mistral", LLAMA | dict(sliding_window=1)),
    "mistral, classifier": ("mistral", LLAMA | dict(sliding_window=5, num_labels=3), dict(classes=True)),
    "qwen2, windows from layer 1": (
        "qwen2",
        LLAMA | dict(use_sliding_window=True, sliding_window=6, max_window_layers=1),
    ),
    "qwen3, biases": ("qwen3", LLAMA | dict(head_dim=6, attention_bias=True)),
    "gemma2, soft caps, untied": (
        "gemma2",
        LLAMA | dict(head_dim=12, sliding_window=3, final_logit_softcapping=3.0, tie_word_embeddings=False),
    ),
    "gemma3, mixed layers, bfloat16": (
        "gemma3_text",
        LLAMA | dict(head_dim=10, layer_types=MIXED, sliding_window=5),
        dict(dtype="bfloat16"),
    ),
    "phi3, part of a head": ("phi3", LLAMA | dict(hidden_size=64) | turned("default", partial_rotary_factor=0.75)),
    "phi3, longrope": (
        "phi3",
        LLAMA
        | dict(hidden_size=32, original_max_position_embeddings=32)
        | turned("longrope", short_factor=SHORT, long_factor=LONG),
    ),
    "gpt2, narrow MLP": ("gpt2", GPT2 | dict(n_inner=23, activation_function="gelu")),
    "gpt2, scaled by layer": ("gpt2", GPT2 | dict(scale_attn_by_inverse_layer_idx=True, n_head=5)),
    "gpt_neox, one after another": ("gpt_neox", NEOX | dict(use_parallel_residual=False, rotary_pct=0.4)),
    "olmo2, one key head": ("olmo2", LLAMA | dict(num_key_value_heads=1, attention_bias=True)),
    "granite": ("granite", LLAMA | GRANITE | dict(attention_bias=True, mlp_bias=True)),
    "smollm3, windows": (
        "smollm3",
        LLAMA | dict(use_sliding_window=True, sliding_window=6, no_rope_layer_interval=2),
    ),
    "mixtral, best expert": ("mixtral", LLAMA | dict(num_local_experts=4, num_experts_per_tok=1)),
    "mixtral, all experts": ("mixtral", LLAMA | dict(num_local_experts=4, num_experts_per_tok=4)),
    "qwen3_moe, a dense layer": (
        "qwen3_moe",
        LLAMA | MOE | dict(num_experts_per_tok=2, norm_topk_prob=True, mlp_only_layers=[1]),
    ),
    "bert, classifier": ("bert", BERT | dict(num_labels=3, type_vocab_size=1), dict(classes=True)),
}

QV, ALL = ["q_proj", "v_proj"], ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
BIASES = LLAMA | dict(attention_bias=True, mlp_bias=True)
TIED = LLAMA | dict(tie_word_embeddings=True)
CONV1D = ["c_attn", "c_proj", "c_fc"]

# name: model_type, fields, adapter, then how it is stored
ADAPTED = {
    "LoRA": ("llama", LLAMA, LoraConfig(r=4, target_modules=ALL)),
    "rsLoRA with biases": ("llama", BIASES, LoraConfig(r=4, use_rslora=True, lora_bias=True, target_modules=ALL)),
    "LoRA, head and embedding": ("llama", LLAMA, LoraConfig(r=4, target_modules=["lm_head", "embed_tokens"])),
    "LoRA, token rows, tied": ("llama", TIED, LoraConfig(r=4, target_modules=QV, trainable_token_indices=[3, 7])),
    "LoRA, saved modules": ("llama", LLAMA, LoraConfig(r=4, target_modules=QV, modules_to_save=["lm_head"])),
    "DoRA": ("llama", LLAMA, LoraConfig(r=4, use_dora=True, target_modules=[*ALL, "embed_tokens"])),
    "DoRA, Conv1D": ("gpt2", GPT2, LoraConfig(r=4, use_dora=True, fan_in_fan_out=True, target_modules=CONV1D)),
    "LoRA, positions": ("gpt2", GPT2, LoraConfig(r=4, target_modules=["wpe", "wte"])),
    "LoRA, fused": ("phi3", LLAMA, LoraConfig(r=4, target_modules=["qkv_proj", "gate_up_proj"])),
    "LoRA, experts": (
        "mixtral",
        LLAMA | dict(num_local_experts=4),
        LoraConfig(r=4, target_modules=QV, target_parameters=["experts.gate_up_proj", "experts.down_proj"]),
    ),
    "LoRA, classifier": (
        "llama",
        LLAMA | dict(num_labels=3),
        LoraConfig(r=4, target_modules=QV, task_type="SEQ_CLS"),
        dict(classes=True),
    ),
    "IA3": ("llama", LLAMA, IA3Config(target_modules=["v_proj", "down_proj"], feedforward_modules=["down_proj"])),
    "LoHa": ("llama", LLAMA, LoHaConfig(r=4, target_modules=ALL)),
    "OFT": ("llama", LLAMA, OFTConfig(oft_block_size=4, target_modules=ALL)),
}


def filled(model, seed: int):
    """Random numbers in every parameter: those that a fresh model has are ones and zeros where it matters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=generator)
            if weight.dim() > 1:
                weight.copy_(noise / weight.shape[-1] ** 0.5)
            else:
                is_scale = ("norm" in name.lower() or "ln_" in name) and name.endswith("weight")
                weight.copy_(0.1 * noise + (weight if is_scale else 0))
    return model


def changed(model, seed: int):
    """What training an adapter does to its parameters."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.requires_grad:
                noise = torch.randn(weight.shape, generator=generator)
                weight.add_(0.1 * noise * (weight if "magnitude" in name else 1))
    return model


def loader(stored: dict):
    return AutoModelForSequenceClassification if stored.get("classes") else AutoModelForCausalLM


def opened(folder: pathlib.Path, stored: dict):
    model = loader(stored).from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    if model.config.model_type in ("mixtral", "qwen3_moe"):
        model.set_experts_implementation("eager")
    return model


def write(folder: pathlib.Path, model_type: str, fields: dict, stored: dict) -> None:
    torch.manual_seed(1)
    model = filled(loader(stored).from_config(AutoConfig.for_model(model_type, **fields)), 3)
    model.to(getattr(torch, stored.get("dtype", "float32")))
    model.save_pretrained(folder, **({"max_shard_size": stored["shards"]} if "shards" in stored else {}))


def texts(vocabulary: int) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {f"t{n}": torch.randint(3, vocabulary, (n,), generator=generator) for n in LENGTHS}


def run(model, ids: torch.Tensor):
    with torch.no_grad():
        return model(input_ids=ids[None], output_hidden_states=True, use_cache=False)


def graftwork(folder: pathlib.Path, tokens: dict[str, torch.Tensor], adapter: pathlib.Path | None):
    save_file({f"{name}.input_ids": ids for name, ids in tokens.items()}, folder / "in.safetensors")
    command = ["node", "src/cli/main.ts", "logits", "--model", folder / "model", "--hidden"]
    command += ["--input", folder / "in.safetensors", "--out", folder / "out.safetensors"]
    command += ["--adapter", adapter] if adapter else []
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    return load_file(folder / "out.safetensors")


def names_of(text: str, count: int, is_encoder: bool) -> list[str]:
    """Of `count` hidden states; what transformers lists last is a decoder's after its last norm."""
    names = [f"{text}.embed", *(f"{text}.hidden.{i}" for i in range(count - 1))]
    return names if is_encoder else [*names[:-1], f"{text}.final"]


def exact(model):
    """In float64, where transformers can: its experts cannot."""
    return None if model.config.model_type in ("mixtral", "qwen3_moe") else copy.deepcopy(model).double()


def measured(model, found: dict[str, torch.Tensor], tokens: dict[str, torch.Tensor]) -> tuple[float, float, float]:
    doubled = exact(model)
    logits, hidden, own = 0.0, 0.0, 0.0
    for text, ids in tokens.items():
        theirs = run(model, ids)
        ours = found[f"{text}.logits"].reshape(theirs.logits[0].shape)
        logits = max(logits, (ours - theirs.logits[0]).abs().max().item())
        if doubled is not None:
            own = max(own, (theirs.logits - run(doubled, ids).logits).abs().max().item())
        states = theirs.hidden_states
        for name, state in zip(names_of(text, len(states), model.config.model_type == "bert"), states, strict=True):
            apart = (found[name].reshape(state[0].shape) - state[0]).norm() / state[0].norm()
            hidden = max(hidden, apart.item())
    return logits, own, hidden


def compared(label: str, case: tuple, adapter=None) -> bool:
    model_type, fields, stored = case[0], case[1], case[2] if len(case) > 2 else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        write(folder / "model", model_type, fields, stored)
        model = opened(folder / "model", stored)
        if adapter is not None:
            adapter.inference_mode = False
            torch.manual_seed(2)
            changed(get_peft_model(model, adapter), 7).save_pretrained(folder / "adapter")
            model = PeftModel.from_pretrained(opened(folder / "model", stored), folder / "adapter").eval()
        tokens = texts(model.config.vocab_size)
        found = graftwork(folder, tokens, folder / "adapter" if adapter is not None else None)
        logits, own, hidden = measured(model, found, tokens)
    good = logits <= MOST_LOGITS and hidden <= MOST_HIDDEN
    itself = f"{own:.1e}" if own else "–"
    print(f"{label:33} {logits:.1e}  {itself:>7}  {hidden:.1e}  {'ok' if good else 'WRONG'}", flush=True)
    return good


def main() -> int:
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{'':33} logits   float32  hidden")
    good = [compared(name, case) for name, case in MODELS.items()]
    for name, (model_type, fields, adapter, *stored) in ADAPTED.items():
        good.append(compared(name, (model_type, fields, *stored), adapter))
    print(f"{sum(good)} of {len(good)} within {MOST_LOGITS:.0e} and {MOST_HIDDEN:.0e}")
    return 0 if all(good) else 1


if __name__ == "__main__":
    sys.exit(main())

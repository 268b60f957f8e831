"""Loads what Graftwork merged with plain transformers and compares with the reference logits. Run by hand:

    python3 -m venv v && v/bin/pip install torch transformers safetensors
    v/bin/python test/oracle/load_merged.py > test/oracle/load_merged.txt

Merges every adapter of test/fixtures/demo with the command line, opens the output with
AutoModelForCausalLM.from_pretrained (no adapter, no trust_remote_code) and compares the logits of three texts with
test/fixtures/demo/logits, which transformers computed from PEFT's own merged checkpoint in float32.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

import torch
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEMO = ROOT / "test" / "fixtures" / "demo"


def merge(adapter: pathlib.Path, out: pathlib.Path) -> dict:
    command = ["npm", "run", "-s", "graftwork", "--", "merge", "--base", DEMO / "base", "--adapter", adapter,
               "--out", out, "--json"]
    return json.loads(subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout)


def main() -> int:
    print(f"transformers {transformers.__version__}, torch {torch.__version__}")
    failed = 0
    for adapter in sorted((DEMO / "adapters").iterdir()):
        with tempfile.TemporaryDirectory() as folder:
            out = pathlib.Path(folder) / "merged"
            merge(adapter, out)
            model, info = AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32, output_loading_info=True)
            AutoTokenizer.from_pretrained(out)
            reference = load_file(DEMO / "logits" / f"{adapter.name}.safetensors")
            worst, scale = 0.0, 0.0
            with torch.no_grad():
                for i in range(3):
                    logits = model(reference[f"text.{i}.input_ids"].reshape(1, -1).long()).logits[0]
                    expected = reference[f"text.{i}.merged"].reshape(logits.shape)
                    worst = max(worst, (logits - expected).abs().max().item())
                    scale = max(scale, expected.abs().max().item())
            keys = {name: len(info[name]) for name in ("missing_keys", "unexpected_keys", "mismatched_keys")}
            ok = worst <= 1e-5 * scale and not any(keys.values())
            failed += not ok
            print(f"{adapter.name}: {'ok' if ok else 'DIFFERENT'}; largest logit difference {worst:.2e} of {scale:.1f}; "
                  + ", ".join(f"{count} {name}" for name, count in keys.items()))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())

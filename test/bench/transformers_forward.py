"""Two float32 forward passes of transformers over the same tokens: base with a PEFT adapter, and a merged folder."""

import json
import resource
import sys
import time

import peft
import torch
import transformers

base, adapter, merged, tokens, vocabulary = sys.argv[1:6]
ids = torch.tensor([[(i * 7919) % int(vocabulary) for i in range(int(tokens))]])
load = lambda folder: transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()  # noqa: E731

started = time.monotonic()
model = peft.PeftModel.from_pretrained(load(base), adapter)
loaded = time.monotonic() - started
with torch.no_grad():
    started = time.monotonic()
    model(ids)
    first = time.monotonic() - started
del model
started = time.monotonic()
model = load(merged)
loaded += time.monotonic() - started
with torch.no_grad():
    started = time.monotonic()
    model(ids)
    second = time.monotonic() - started
print(
    json.dumps(
        {
            "load_s": loaded,
            "adapter_s": first,
            "merged_s": second,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
    )
)

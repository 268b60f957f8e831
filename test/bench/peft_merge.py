"""PEFT's own merge of a folder: load, merge_and_unload, save_pretrained. Prints one JSON document."""

import json
import resource
import sys
import time

started = time.monotonic()
import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

base, adapter, out = sys.argv[1:4]
imported = time.monotonic()
model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.bfloat16)
loaded = time.monotonic()
model = peft.PeftModel.from_pretrained(model, adapter).merge_and_unload()
merged = time.monotonic()
model.save_pretrained(out, max_shard_size="500MB")
saved = time.monotonic()
print(
    json.dumps(
        {
            "import_s": imported - started,
            "load_s": loaded - imported,
            "merge_s": merged - loaded,
            "save_s": saved - merged,
            "wall_s": saved - imported,
            "peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
            "peft": peft.__version__,
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        }
    )
)

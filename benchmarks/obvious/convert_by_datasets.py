"""The same by Hugging Face's `datasets`: python convert_by_datasets.py SOURCE TARGET."""

import sys

from datasets import load_dataset

source, target = sys.argv[1:]
rows = load_dataset("json", data_files=source, split="train", cache_dir=target + ".cache")
others = [name for name in rows.column_names if name != "messages"]
rows.map(lambda row: {"messages": row["messages"]}, remove_columns=others).to_json(target)

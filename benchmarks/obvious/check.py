"""Whether each row ends with an answer and has no empty message, and the number of tokens: python check.py SOURCE."""

import json
import sys
from pathlib import Path

from mistral_common.tokens.tokenizers import tekken

vocabulary = tekken.Tekkenizer.from_file(tekken.__file__.replace("tokenizers/tekken.py", "../data/tekken_240911.json"))
encoding = vocabulary._model
bad = tokens = 0
with Path(sys.argv[1]).open() as lines:
    for line in lines:
        messages = json.loads(line)["messages"]
        bad += messages[-1]["role"] != "assistant" or not all(m["content"].strip() for m in messages)
        tokens += sum(len(encoding.encode_ordinary(m["content"])) for m in messages)

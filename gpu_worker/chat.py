"""Talk to a model folder: `python -m gpu_worker.chat --model FOLDER`, or once with `--prompt "…"`."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gpu_worker.base_model import chat_template, read_model
from queue_app.errors import Invalid

if TYPE_CHECKING:
    from collections.abc import Iterator

Message = dict[str, str]


class Talk:
    """A conversation that the model remembers for as long as it lasts."""

    def __init__(self, folder: Path, max_new_tokens: int) -> None:
        os.environ["HF_HUB_OFFLINE"] = "1"  # a folder has all there is
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # see gpu_worker.child
        try:  # seconds: not before the folder is known to be good
            import transformers

            from gpu_worker.backends.hardware import find_hardware
        except ImportError as error:
            raise Invalid(f"chat needs {error.name}; install the extra: pip install 'tuneyard[train]'") from error

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        hardware = find_hardware()
        self.tokenizer: Any = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=hardware.dtype)
        self.model: Any = model.to(hardware.device).eval()
        self.streamer: Any = transformers.TextStreamer(self.tokenizer, skip_prompt=True, skip_special_tokens=True)
        self.max_new_tokens = max_new_tokens
        self.messages: list[Message] = []

    def say(self, text: str) -> None:
        """Stream the answer to stdout, word by word."""
        self.messages.append({"role": "user", "content": text})
        inputs = self.tokenizer.apply_chat_template(
            self.messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        ).to(self.model.device)
        made = self.model.generate(
            **inputs,
            max_new_tokens=self.max_new_tokens,
            do_sample=False,
            pad_token_id=self.tokenizer.pad_token_id,
            streamer=self.streamer,
        )
        answer = self.tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        self.messages.append({"role": "assistant", "content": answer})


def lines() -> Iterator[str]:
    """What the user types, until the end of input or `/quit`; empty lines are passed over."""
    while True:
        try:
            text = input("> " if sys.stdin.isatty() else "").strip()
        except EOFError:
            return
        if text == "/quit":
            return
        if text:
            yield text


def main(arguments: list[str] | None = None) -> int:
    """Chat; 3: the folder is no model that can, 130: interrupted."""
    parser = argparse.ArgumentParser(prog="python -m gpu_worker.chat", description="Talk to a model folder.")
    parser.add_argument("--model", type=Path, required=True, help="a model folder with a chat template")
    parser.add_argument("--prompt", help="ask this, print the answer and end")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="longest answer in tokens (default: 256)")
    given = parser.parse_args(arguments)
    try:
        read_model(given.model)
        if chat_template(given.model) is None:
            raise Invalid(f"{given.model} has no chat template; chat needs a chat (instruct) model")
        talk = Talk(given.model, given.max_new_tokens)
        if given.prompt is None and sys.stdin.isatty():
            sys.stderr.write("Type a message; /quit or Ctrl-D ends.\n")
        for text in lines() if given.prompt is None else [given.prompt]:
            talk.say(text)
    except Invalid as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""What can be said of an axolotl file, and written into one, without an axolotl.

`knowing` is no axolotl: it is what one of ours could answer, so that the reading of its answer is looked at here. The
answer itself is tested in `test_axolotl.py`, where one is installed.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from gpu_worker import trackers
from gpu_worker.axolotl.program import RELAY, Schema, ask, find_axolotl
from gpu_worker.axolotl.settings_file import in_words_of, settings_for, write
from gpu_worker.axolotl.users_file import OVERRIDDEN, REFUSED, check_known, read_file
from gpu_worker.axolotl.words import changed_words, in_axolotls_words, in_our_words
from gpu_worker.backends import choose_engine, load_backend
from gpu_worker.backends.hardware import Hardware
from gpu_worker.child_side import Channel
from gpu_worker.fitting.machine import Machine
from gpu_worker.fitting.shape import read_shape
from gpu_worker.training_config import AxolotlOrder, TrainingConfig, TrainingOrder
from queue_app.errors import Invalid, Permanent, Transient
from queue_app.job_type import Attempt, Result, job
from queue_app.lifecycle import Cause, State
from queue_app.recipe.fields import Surroundings, find_faults
from settings import Settings
from tasks.train_axolotl import TrainAxolotl, hold_to
from tests.gpu_worker.test_training import rows_of
from tests.tiny_model import make_tiny_model

if TYPE_CHECKING:
    from gpu_worker.axolotl.users_file import UsersFile
    from tests.conftest import RunHere

FILE = """\
base_model: tiny
adapter: lora
lora_r: 8
lora_alpha: 16
lora_target_linear: true
datasets:
  - path: talk.jsonl
    type: chat_template
    field_messages: messages
val_set_size: 0.25
sequence_len: 128
micro_batch_size: 2
num_epochs: 2
learning_rate: 1e-3
optimizer: adamw_bnb_8bit
save_steps: 4
output_dir: ./outputs/mine
"""


def write_file(folder: Path, text: str = FILE, **changes: str) -> Path:
    """The file and what it names, with lines changed (or, for an empty text, left out)."""
    (folder / "talk.jsonl").write_text('{"messages": []}\n')
    lines = [line for line in text.splitlines() if line.split(":")[0] not in changes]
    path = folder / "mine.yml"
    path.write_text("\n".join([*lines, *(f"{key}: {value}" for key, value in changes.items() if value)]) + "\n")
    return path


def read(path: Path, *, has_base: bool = False, has_dataset: bool = False, has_holdout: bool = False) -> UsersFile:
    return read_file(path, has_base=has_base, has_dataset=has_dataset, has_holdout=has_holdout)


def knowing(*names: str) -> Schema:
    """An answer that knows the file's keys and some more."""
    keys: dict[str, Any] = dict.fromkeys(
        (*(line.split(":")[0] for line in FILE.splitlines() if line[0] != " "), *names)
    )
    return Schema("0.0", keys | {"datasets": dict.fromkeys(("path", "type", "field_messages"))}, [])


def order(folder: Path, settings: dict[str, Any] | None = None, **changes: Any) -> TrainingOrder:
    config = TrainingConfig(method="lora", max_steps=4, **changes) if settings is None else in_our_words(settings)
    return TrainingOrder(
        engine="axolotl",
        base_model="tiny",
        model_folder=folder / "tiny",
        rows=folder / "talk.jsonl",
        holdout_rows=None,
        checkpoints=folder / "checkpoints",
        output=folder / "trained",
        curves=folder / "curves",
        hyperparameters=config,
        axolotl=AxolotlOrder(program=folder / "axolotl", settings=settings or {}),
    )


def test_an_unknown_key_is_refused_with_its_line_and_the_nearest(tmp_path: Path) -> None:
    path = write_file(tmp_path, FILE.replace("micro_batch_size", "micro_batch_sice").replace("    type", "    typ"))
    with pytest.raises(Invalid) as refused:
        check_known(read(path), knowing("micro_batch_size"))
    told = str(refused.value).splitlines()
    assert [line.split(": axolotl")[0] for line in told] == [f"{path} line 8", f"{path} line 12"]
    assert 'knows no "datasets.0.typ" and would pass it over in silence; did you mean "type"?' in told[0]
    assert 'knows no "micro_batch_sice" and would pass it over in silence; did you mean "micro_batch_size"?' in told[1]


def test_a_value_of_a_wrong_type_is_refused_with_its_line(tmp_path: Path) -> None:
    path = write_file(tmp_path)
    problems = [(("datasets", 0, "SFTDataset", "type"), "Input should be a valid string")]
    with pytest.raises(Invalid, match=r'mine.yml line 8: "datasets.0.type": input should be a valid string'):
        check_known(read(path), Schema("0.0", knowing().keys, problems))  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_what_cannot_go_through_is_refused_and_what_says_no_is_let_pass(tmp_path: Path, name: str) -> None:
    with pytest.raises(Invalid, match=rf'line 18: "{name}": .*; remove it'):
        read(write_file(tmp_path, **{name: "true"}))
    assert read(write_file(tmp_path, **{name: "false"})).settings["adapter"] == "lora"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"adapter": ""}, '"adapter" must be lora or qlora, and is missing'),
        ({"adapter": "dora"}, "line 17: \"adapter\" must be lora or qlora, not 'dora'"),
        ({"base_model": ""}, '"base_model" is missing'),
        ({"wandb_api_key": "abc"}, '"wandb_api_key": a file that is kept with the job must hold no key'),
        ({"save_safetensors": "false"}, '"save_safetensors": a pickle can run code'),
        ({"save_strategy": "best"}, '"save_strategy": a job goes on from its checkpoints'),
        ({"lora_r": "0"}, 'line 17: "lora_r": Input should be greater than or equal to 1'),
        ({"test_datasets": "[{path: hub/name}]"}, '"test_datasets.0.path" must be a .jsonl file here'),
    ],
    ids=str,
)
def test_what_a_file_lacks_is_told_with_its_place(tmp_path: Path, changes: dict[str, str], told: str) -> None:
    with pytest.raises(Invalid) as refused:
        read(write_file(tmp_path, **changes))
    assert told in str(refused.value)
    assert str(refused.value).startswith(f"{tmp_path / 'mine.yml'} line ")


def test_what_is_given_to_the_job_need_not_be_in_the_file(tmp_path: Path) -> None:
    path = write_file(tmp_path, base_model="", chat_template="llama3")
    path.write_text(path.read_text().replace("talk.jsonl", "some/hub"))
    file = read(path, has_base=True, has_dataset=True)
    assert "datasets" not in file.settings
    assert [note.rpartition(".yml: ")[2].partition(":")[0] for note in file.notes] == [
        '"output_dir" is not taken from the file',
        '"chat_template" has no effect',
        '"val_set_size" has no effect',
    ]


def test_paths_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "tiny")
    file = read(write_file(tmp_path))
    assert file.settings["base_model"] == str(tmp_path / "tiny")
    assert file.settings["datasets"][0]["path"] == str(tmp_path / "talk.jsonl")


def test_what_tuneyard_decides_is_not_taken_from_the_file_and_said(tmp_path: Path) -> None:
    file = read(write_file(tmp_path, **dict.fromkeys(OVERRIDDEN, "1")))
    assert not set(OVERRIDDEN) & set(file.settings)
    assert {note.split('"')[1] for note in file.notes} == set(OVERRIDDEN)


def test_an_optimizer_of_unknown_memory_is_left_alone_and_noted(tmp_path: Path) -> None:
    file = read(write_file(tmp_path, optimizer="lion_8bit"))
    assert "optimizer lion_8bit is not one whose memory is known" in file.notes[-1]
    made = settings_for(order(tmp_path, file.settings), {}, tmp_path, None)
    assert made["optimizer"] == "lion_8bit"


def test_a_file_says_in_our_words_what_memory_depends_on(tmp_path: Path) -> None:
    config = in_our_words(read(write_file(tmp_path)).settings)
    assert (config.micro_batch_size, config.gradient_accumulation_steps, config.sequence_len) == (2, 1, 128)
    assert (config.optimizer, config.method, config.gradient_checkpointing) == ("adamw_8bit", "lora", False)
    assert (config.epochs, config.max_steps, config.learning_rate, config.save_steps) == (2, None, 1e-3, 4)


def test_a_smaller_setting_goes_before_the_file_and_all_else_stays(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    settings = read(write_file(tmp_path)).settings
    asked = order(tmp_path, settings)
    smaller = asked.hyperparameters.model_copy(update={"micro_batch_size": 1, "gradient_accumulation_steps": 2})
    assert changed_words(settings, asked.hyperparameters) == {}
    made = settings_for(asked.model_copy(update={"hyperparameters": smaller}), {}, tmp_path, None)
    kept = {name: value for name, value in settings.items() if name not in ("micro_batch_size", "eval_batch_size")}
    assert (made["micro_batch_size"], made["gradient_accumulation_steps"], made["eval_batch_size"]) == (1, 2, 1)
    assert {name: made[name] for name in kept} == kept
    assert made["eval_steps"] == 4


def test_a_file_that_is_written_reads_the_same_by_both_versions_of_yaml(tmp_path: Path) -> None:
    told = {
        "learning_rate": 1e-5,
        "x": 1e30,
        "s": "yes",
        "n": "1e-5",
        "b": False,
        "l": [{"path": "a: b"}],
        "none": None,
    }
    write(tmp_path / "made.yml", told)
    assert yaml.safe_load((tmp_path / "made.yml").read_text()) == {k: v for k, v in told.items() if v is not None}


def test_settings_have_the_names_of_the_version_that_is_there(tmp_path: Path) -> None:
    told = settings_for(order(tmp_path), {"datasets": tmp_path / "rows.jsonl"}, tmp_path, tmp_path / "checkpoint-3")
    everything = dict.fromkeys(told)
    assert in_words_of(Schema("1.0", everything, []), told) == told
    older = {name: None for name in everything if name not in ("dataset_num_proc", "lora_mlp_kernel")}
    made = in_words_of(Schema("0.5", {**older, "dataset_processes": None}, []), told)
    assert made["dataset_processes"] == told["dataset_num_proc"]
    assert "lora_mlp_kernel" not in made
    assert made["resume_from_checkpoint"] == str(tmp_path / "checkpoint-3")
    assert made["plugins"] == [RELAY]
    del older["max_grad_norm"]
    with pytest.raises(Invalid, match=r'axolotl 0.4 knows no "max_grad_norm".*install a version that does'):
        in_words_of(Schema("0.4", {**older, "dataset_processes": None}, []), told)


def test_our_settings_and_axolotls_are_the_same_there_and_back() -> None:
    for config in (
        TrainingConfig(method="qlora", max_steps=7, target_modules=("q_proj",), warmup=0.1, optimizer="adamw_8bit"),
        TrainingConfig(method="lora", epochs=2.5, gradient_checkpointing=True, lora_dropout=0.1, scheduler="linear"),
    ):
        back = in_our_words(in_axolotls_words(config))
        assert back == config.model_copy(update={"gradient_checkpointing": bool(config.gradient_checkpointing)})


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"objective": "dpo"}, "objective: dpo does not go through axolotl"),
        ({"method": "full"}, "method: full does not go through axolotl"),
        ({"report_to": ("wandb",)}, "report_to is not passed on"),
        ({"lora_alpha": 8.5}, "lora_alpha is a whole number in axolotl, not 8.5"),
        ({"packing": "bfd"}, "packing: bfd needs a GPU"),
        ({"method": "qlora"}, "method: qlora on a CPU does not go through axolotl"),
    ],
    ids=str,
)
def test_what_axolotl_has_no_word_for_is_refused(changes: dict[str, Any], told: str) -> None:
    import torch

    with pytest.raises(Invalid, match=told):
        load_backend("axolotl").validate(
            TrainingConfig(**{"method": "lora", **changes}), Hardware("cpu", "any", torch.float32)
        )


def test_axolotl_is_reckoned_with_all_logits_at_once(tmp_path: Path) -> None:
    shape, config = read_shape(make_tiny_model(tmp_path / "tiny")), TrainingConfig(method="lora")
    for machine in (Machine("cpu"), Machine("cuda")):
        made = [load_backend(engine).estimate(shape, config, machine, 64) for engine in ("axolotl", "trl")]
        whole, chunked = ({part.name: part for part in each.parts}["logits"] for each in made)
        assert (whole.how.split(", ")[1], chunked.how.split(", ")[1]) == ("all at once", "a chunk at a time")


def test_an_axolotl_that_is_not_there_is_told_with_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    assert choose_engine("axolotl") == "axolotl"
    with pytest.raises(Invalid, match="axolotl is not installed here; .*training.axolotl"):
        find_axolotl(None)
    with pytest.raises(Invalid, match=r"training.axolotl: .*nowhere is no program"):
        find_axolotl(tmp_path / "nowhere")
    program = tmp_path / "axolotl"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert find_axolotl(None) == program


def test_a_program_without_axolotl_says_what_is_missing(tmp_path: Path) -> None:
    program = tmp_path / "axolotl"
    program.write_text(f"#!{Path(sys.executable).absolute()}\n")
    program.chmod(0o755)
    if os.access(Path(sys.executable).parent / "axolotl", os.X_OK):
        pytest.skip("this environment has axolotl")
    with pytest.raises(Invalid, match="cannot be asked what it knows: ModuleNotFoundError: .*axolotl"):
        ask(program, json.loads("{}"))


def test_a_file_is_checked_where_its_job_is_submitted(tmp_path: Path) -> None:
    write_file(tmp_path, adapter="dora")
    [(place, said)] = find_faults(TrainAxolotl, {"config": "mine.yml"}, Surroundings(tmp_path))
    assert (place, "mine.yml line 17: \"adapter\" must be lora or qlora, not 'dora'" in said) == ((), True)
    assert find_faults(TrainAxolotl, {"config": "$made.file"}, Surroundings(tmp_path)) == []


def test_the_base_model_and_the_examples_that_a_file_names_are_inputs_of_its_job(tmp_path: Path) -> None:
    (tmp_path / "tiny").mkdir()
    path, examples = str(write_file(tmp_path)), str(tmp_path / "talk.jsonl")
    assert TrainAxolotl(config=path).also_reads() == [str(tmp_path / "tiny"), examples]
    assert TrainAxolotl(config=path, base_model="other").also_reads() == [examples]
    assert TrainAxolotl(config=path, dataset="set").also_reads() == [str(tmp_path / "tiny")]


def test_a_run_goes_on_with_the_file_that_it_began_with_or_not_at_all(run_here: RunHere, tmp_path: Path) -> None:
    path = write_file(tmp_path)

    def train(spec: TrainAxolotl, attempt: Attempt) -> Result:
        hold_to(spec.read(), attempt)
        if attempt.number == 1:
            write_file(tmp_path, learning_rate="1e-4")
        raise Transient("the child was killed", retry_after=0.01)

    ended = run_here.declaring(job("axolotl.train", queues=("cpu",))(train))(
        "axolotl.train", config=str(path), base_model="other"
    )
    assert (ended.attempt, ended.state, ended.cause) == (2, State.FAILED, Cause.USER)
    assert f"{path} has changed since the run began" in str(ended.failure)


def test_a_key_anywhere_in_a_file_is_refused_and_not_repeated(tmp_path: Path) -> None:
    for line, place in (
        ("mlflow_tracking_uri: http://me:hunter2@host/", "mlflow_tracking_uri"),
        ("trackio: {hf_token: hunter2}", "trackio.hf_token"),
        ("wandb_notes: [mine, hf_hunter2hunter2hunter2hunter2]", "wandb_notes.1"),
    ):
        name, _, value = line.partition(": ")
        with pytest.raises(Invalid) as refused:
            read(write_file(tmp_path, **{name: value}))
        assert f'line 18: "{place}": a file that is kept with the job must hold no key' in str(refused.value)
        assert "hunter2" not in str(refused.value)
    read(write_file(tmp_path, special_tokens="{pad_token: <pad>}", mlflow_tracking_uri="http://host:5000/"))


def test_yes_and_no_mean_what_they_mean_to_axolotl(tmp_path: Path) -> None:
    settings = read(write_file(tmp_path, gradient_checkpointing="off", sample_packing="Yes", deepspeed="no")).settings
    assert (settings["gradient_checkpointing"], settings["sample_packing"]) == (False, True)
    assert in_our_words(settings).gradient_checkpointing is False
    with pytest.raises(Invalid, match='"save_safetensors": a pickle can run code'):
        read(write_file(tmp_path, save_safetensors="no"))


def test_other_paths_too_are_taken_from_the_folder_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "words").mkdir()
    settings = read(write_file(tmp_path, tokenizer_config="./words", chat_template_jinja="'{{ x }}'")).settings
    assert settings["tokenizer_config"] == str(tmp_path / "words")
    assert settings["chat_template_jinja"] == "{{ x }}"


def test_a_file_that_cannot_be_read_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="it cannot be read"):
        read(tmp_path)
    with pytest.raises(Invalid, match="it cannot be read"):
        read(tmp_path / "none.yml")


def test_a_file_that_says_no_to_flash_attention_gets_none(tmp_path: Path) -> None:
    known = Schema("0.9", {"flash_attention": None}, [])
    assert in_words_of(known, {"flash_attention": False}) == {"flash_attention": False}
    assert in_words_of(known, {"attn_implementation": "flash_attention_2"}) == {"flash_attention": True}


def test_a_card_that_fails_before_the_first_step_is_no_fault_of_the_job(tmp_path: Path) -> None:
    from gpu_worker.axolotl.relayed import Replay
    from gpu_worker.axolotl.run import explain_end

    log = tmp_path / "axolotl.log"
    log.write_text("RuntimeError: No CUDA GPUs are available\n")
    replay = Replay(Channel(-1, tmp_path), order(tmp_path), {}, None)
    assert isinstance(explain_end(1, log, replay, 0), Transient)
    log.write_text("ValueError: nothing to do with cards\n")
    assert isinstance(explain_end(1, log, replay, 0), Permanent)


def test_runs_that_a_file_reports_to_weights_and_biases_are_one_run_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_RUN_ID", raising=False)
    settings = read(write_file(tmp_path, wandb_project="mine", mlflow_experiment_name="mine"))
    assert "MLflow gets a run for each attempt" in settings.notes[-1]
    trackers.go_on(order(tmp_path).model_copy(update={"name": "job-1"}))
    assert "WANDB_RUN_ID" not in os.environ
    trackers.go_on(order(tmp_path, settings.settings).model_copy(update={"name": "job-1"}))
    assert (os.environ.pop("WANDB_RUN_ID"), os.environ.pop("WANDB_RESUME")) == ("job-1", "allow")


def test_an_axolotl_that_does_not_answer_where_a_job_is_submitted_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_file(tmp_path)
    program = tmp_path / "axolotl"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "nothing" / "python"))
    assert find_faults(TrainAxolotl, {"config": "mine.yml"}, Surroundings(tmp_path, Settings())) == []


def test_examples_that_count_differently_are_refused(tmp_path: Path) -> None:
    from gpu_worker.axolotl.run import read_examples

    make_tiny_model(tmp_path / "tiny")
    row = {"prompt": [{"role": "user", "content": "x"}], "completion": [{"role": "assistant", "content": "y"}]}
    rows_of(tmp_path / "talk.jsonl", row, {**row, "weight": 0.5})
    with pytest.raises(Invalid, match="axolotl cannot weight examples; take engine: trl"):
        read_examples(order(tmp_path), tmp_path)
    rows_of(tmp_path / "talk.jsonl", row, {**row, "weight": 0})
    data, counted = read_examples(order(tmp_path), tmp_path)
    assert (list(data), counted["examples"], counted["weightless_examples"]) == (["datasets"], 1, 1)

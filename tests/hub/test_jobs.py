from pathlib import Path

import pytest

from hub.aggregation.strategies.fedadam import FedAdam
from hub.aggregation.strategies.fedavg import FedAvg
from hub.aggregation.strategies.fedavgm import FedAvgM
from hub.aggregation.strategies.scaffold import Scaffold
from hub.errors import ConfigError
from hub.jobs import JobFile, parse_job
from hub.rounds.events import Gate, Until
from hub.yaml_file import MAX_FILE_BYTES, decode_text, read_text

MINIMAL = "job: notes\nmodel: {base: ./base}\n"
FROM_THE_DESIGN = """\
job: clinic-notes
model: {base: ./models/base}          # a Hugging Face folder or id
method: lora
lora: {rank: 16, min_rank: 2, targets: all-linear}
prompt: {kind: soft, tokens: 16}
strategy: fedavg
rule: stack_svd
rounds: 20
cohort: {min: 3, max: 50}
deadline_s: auto
local: {steps: 20, batch: 4, min_batch: 1, seq_len: 256, min_seq_len: 128, optimizer: adamw,
        lr: 1.0e-3}
codec: auto
seed: 7
"""


def test_the_example_of_the_design_is_read() -> None:
    job = parse_job(FROM_THE_DESIGN)
    assert (job.job, job.model.base, job.method) == ("clinic-notes", "./models/base", "lora")
    assert (job.lora.rank, job.lora.min_rank, job.lora.targets) == (16, 2, "all-linear")
    assert (job.prompt.kind, job.prompt.tokens) == ("soft", 16)
    assert (job.strategy, job.rule, job.rounds) == ("fedavg", "stack_svd", 20)
    assert (job.cohort.min, job.cohort.max, job.deadline_s) == (3, 50, "auto")
    assert (job.local.steps, job.local.batch, job.local.min_batch) == (20, 4, 1)
    assert (job.local.seq_len, job.local.min_seq_len) == (256, 128)
    assert (job.local.optimizer, job.local.lr) == ("adamw", 0.001)
    assert (job.codec, job.seed) == ("auto", 7)


def test_all_but_job_and_base_has_the_defaults_of_the_design() -> None:
    example = FROM_THE_DESIGN.replace("clinic-notes", "notes").replace("./models/base", "./base")
    assert parse_job(MINIMAL) == parse_job(example.replace("seed: 7", "seed: null"))


@pytest.mark.parametrize(
    ("written", "lr"), [("1e-3", 0.001), ("1.0e-3", 0.001), ("2E-4", 0.0002), (".5", 0.5), ("1", 1)]
)
def test_a_learning_rate_is_a_number_however_it_is_written(written: str, lr: float) -> None:
    assert parse_job(MINIMAL + f"local: {{lr: {written}}}").local.lr == lr


def test_values_are_read_as_yaml_1_2_says_not_1_1() -> None:
    # YAML 1.1 would read a date, false, and eight.
    job = parse_job("job: 2024-01-01\nmodel: {base: no}\nrounds: 010\n")
    assert (job.job, job.model.base, job.rounds) == ("2024-01-01", "no", 10)


def test_a_deadline_and_targets_may_be_given() -> None:
    job = parse_job(MINIMAL + "deadline_s: 90\nlora: {targets: [q_proj, v_proj]}\n")
    assert job.deadline_s == 90
    assert job.lora.targets == ["q_proj", "v_proj"]


def test_a_gate_and_a_stopping_rule_are_off_until_the_job_asks_for_them() -> None:
    plain = parse_job(MINIMAL)
    assert (plain.gate(), plain.stopping_rule()) == (None, None)
    # The design's own example, and the defaults of what it leaves out.
    job = parse_job(
        MINIMAL + "publish_if: {metric: heldout_loss, max_regression: 0.01}\n"
        "until: {metric: worst_tenth, patience: 5}\n"
    )
    assert job.gate() == Gate(metric="heldout_loss", max_regression=0.01)
    assert job.stopping_rule() == Until(metric="worst_tenth", patience=5, min_delta=0.001)
    assert parse_job(MINIMAL + "publish_if: {}\n").gate() == job.gate()


def test_a_strategy_is_set_by_the_job() -> None:
    job = parse_job(MINIMAL + "strategy: fedavgm\nserver: {momentum: 0.5}\n")
    assert job.chosen_strategy() == FedAvgM(lr=1.0, momentum=0.5)
    assert parse_job(MINIMAL).chosen_strategy() == FedAvg()
    prompts = parse_job(MINIMAL + "method: prompt\nstrategy: fedadam\nserver: {beta2: 0.5}\n")
    assert prompts.chosen_strategy() == FedAdam(beta2=0.5)
    linear = parse_job(MINIMAL + "rule: freeze_a\nstrategy: fedadam\n")
    assert linear.chosen_strategy() == FedAdam()
    plain = "local: {optimizer: sgd, clip: null, warmup_steps: 0}\n"
    whole = parse_job(MINIMAL + "method: full\nstrategy: fedyogi\n")
    assert whole.trains_weights
    assert not linear.trains_weights
    corrected = parse_job(MINIMAL + "method: prompt\nstrategy: scaffold\n" + plain)
    assert corrected.chosen_strategy() == Scaffold()


BAD = [
    ("jub: x", "jub", "did you mean job?"),
    ("lora: {rnk: 4}", "lora.rnk", "did you mean lora.rank?"),
    ("rank: 4", "rank", "did you mean lora.rank?"),
    ("publish_if: {metric: accuracy}", "publish_if.metric", "heldout_loss"),
    ("publish_if: {metric: validation_loss}", "publish_if.metric", "Give hub.validation"),
    ("until: {metric: validation_loss}", "until.metric", "Give hub.validation"),
    ("publish_if: {max_regression: -0.1}", "publish_if.max_regression", "0"),
    ("publish_if: {max_loss: 2}", "publish_if", "max_regression"),
    ("until: {patience: 0}", "until.patience", "1"),
    ("until: {min_delta: -1}", "until.min_delta", "0"),
    ("until: {rounds: 3}", "until", "patience"),
    ("zebra: 1", "zebra", "Allowed here: job, model, method"),
    ("model: {base: x, revision: y}", "model.revision", "Allowed here: model.base"),
    ("method: all", "method", "is 'all'; allowed is full, lora, lora+prompt, pretrain or prompt"),
    ("method: full\nrule: freeze_a", "rule", "with method full there are no LoRA factors"),
    ("method: pretrain", "pretrain.config", "is missing; it is required with method pretrain"),
    ("method: pretrain\npretrain: {config: c}", "pretrain.tokenizer_text", "is missing"),
    (
        "method: pretrain\npretrain: {config: c, tokenizer_text: t}",
        "model.base",
        "is ./base; method pretrain makes a base of its own",
    ),
    ("pretrain: {config: c}", "pretrain", "means nothing to method lora"),
    ("pretrain: {vocabulary: 258}", "pretrain.vocabulary", "from 259 to 1048576"),
    ("method: yes", "method", "is 'yes'"),
    ("strategy: best", "strategy", "allowed is diloco, fedadam, fedavg"),
    ("strategy: [fedavg]", "strategy", "allowed is text"),
    ("server: {momentum: 0.9}", "server.momentum", "strategy fedavg; it has no settings"),
    ("strategy: fedprox\nserver: {lr: 1}", "server.lr", "strategy fedprox; it has mu"),
    ("strategy: fedavgm\nserver: {momentum: 1}", "server.momentum", "from 0 to 0.999"),
    (
        "strategy: fedadam",
        "strategy",
        "fedadam needs a fixed basis; rule stack_svd turns it each round. Use strategy fedavgm, "
        "rule freeze_a, or method prompt.",
    ),
    ("method: lora+prompt\nstrategy: fedyogi", "strategy", "or method prompt."),
    ("rule: fedit\nstrategy: fedyogi", "strategy", "fedit trains both factors. Use"),
    ("rule: core\nstrategy: fedyogi", "strategy", "core moves cores, not entries. Use"),
    ("method: prompt\nstrategy: fedyogi\nserver: {tau: 0}", "server.tau", "above 0 to 10"),
    (
        "strategy: scaffold",
        "strategy",
        "strategy scaffold keeps control variates of prompts and of whole weights alone. Use "
        "strategy fednova, or method prompt or full.",
    ),
    (
        "method: prompt\nstrategy: scaffold",
        "local.optimizer",
        "is 'adamw'; strategy scaffold needs 'sgd': its control variates",
    ),
    (
        "method: prompt\nstrategy: scaffold\nlocal: {optimizer: sgd, clip: null, momentum: 0.5}",
        "local.momentum",
        "is 0.5; strategy scaffold needs 0.0",
    ),
    (
        "method: prompt\nstrategy: scaffold\nlocal: {optimizer: sgd, warmup_steps: 0}",
        "local.clip",
        "is 1.0; strategy scaffold needs null",
    ),
    (
        "strategy: fednova\nserver: {mu: 0.1}",
        "local.optimizer",
        "is 'adamw'; strategy fednova needs 'sgd': it reckons",
    ),
    ("server: {rate: 1}", "server.rate", "Allowed here: server.lr"),
    (
        "rule: krum",
        "rule",
        "allowed is alternate, core, fedit, fedsvd, flexlora, freeze_a, hetlora, raflora or stack_",
    ),
    ("rule: fedit\nmethod: prompt", "rule", "Leave rule out, or use method lora"),
    ("codec: zip", "codec", "allowed is auto, bf16, entropy, int4, int8, raw, seeds or topk"),
    ("prompt: {kind: hard}", "prompt.kind", "allowed is prefix or soft"),
    ("prompt: {tokens: 0}", "prompt.tokens", "from 1 to"),
    ("rounds: 0", "rounds", "is 0; allowed is a whole number from 1"),
    ("rounds: 2.5", "rounds", "is 2.5"),
    ("rounds: many", "rounds", "is 'many'"),
    ("rounds: true", "rounds", "is true"),
    ("rounds: null", "rounds", "is null"),
    ("rounds: 99999999999999999999999", "rounds", "from 1 to"),
    ("lora: {rank: 0}", "lora.rank", "from 1 to 1024"),
    ("lora: {rank: 1025}", "lora.rank", "from 1 to 1024"),
    ("lora: {rank: 4, min_rank: 8}", "lora.min_rank", "is 8; allowed"),
    ("prompt: {kind: prefix}", "prompt.kind", "is prefix, which needs method prompt, not lora"),
    ("lora: {rank: 4, rank_pattern: {q_proj: 8}}", "lora.rank_pattern.q_proj", "is 8; allowed"),
    ("lora: [16]", "lora", "a mapping with the keys rank, min_rank, targets, rank_pattern"),
    ("lora: {targets: every}", "lora.targets", "all-linear or a list of text"),
    ("lora: {targets: []}", "lora.targets", "allowed is"),
    ("lora: {targets: [q_proj, 3]}", "lora.targets[1]", "is 3; allowed is text"),
    ("lora: {targets: [q_proj, q_proj]}", "lora.targets", "each name once"),
    ("cohort: {min: 9, max: 3}", "cohort.min", "cohort.max (3)"),
    ("deadline_s: soon", "deadline_s", "auto or a number above 0"),
    ("deadline_s: 0", "deadline_s", "is 0; allowed"),
    ("deadline_s: .nan", "deadline_s", "is '.nan'"),
    ("deadline_s: 1e999", "deadline_s", "is inf"),
    ("local: {lr: 0}", "local.lr", "above 0"),
    ("local: {lr: -1e-3}", "local.lr", "is -0.001"),
    ("local: {lr: '1e-3'}", "local.lr", "is '1e-3'"),
    ("local: {optimizer: adam}", "local.optimizer", "allowed is adamw or sgd"),
    ("local: {momentum: 0.9}", "local.momentum", "0, except with local.optimizer sgd"),
    ("local: {optimizer: sgd, momentum: 1}", "local.momentum", "0.999"),
    ("local: {schedule: step}", "local.schedule", "constant, cosine or linear"),
    ("local: {steps: 5, warmup_steps: 6}", "local.warmup_steps", "local.steps (5)"),
    ("local: {clip: 0}", "local.clip", "above 0"),
    ("local: {adversarial: {epsilon: 0}}", "local.adversarial.epsilon", "above 0"),
    ("local: {adversarial: {kind: pgd, epsilon: 1}}", "local.adversarial.kind", "fgm"),
    ("local: {batch: 2, accumulate: 4}", "local.accumulate", "local.batch (2)"),
    ("local: {batch: 2, min_batch: 4}", "local.min_batch", "local.batch (2)"),
    ("local: {seq_len: 64}", "local.min_seq_len", "local.seq_len (64)"),
    ("seed: -1", "seed", "or null"),
    ("seed: 1.5", "seed", "is 1.5"),
    ("rounds: 3\nrounds: 4", "rounds", "twice (lines 3 and 4)"),
    ("lora: {rank: 3, rank: 4}", "lora.rank", "twice"),
    ("rounds: !!python/object:os.system {}", "rounds", "without a tag"),
]


@pytest.mark.parametrize(("line", "path", "words"), BAD, ids=[line for line, _, _ in BAD])
def test_a_bad_line_is_refused_with_its_path(line: str, path: str, words: str) -> None:
    text = line if line.startswith("model") else MINIMAL + line
    with pytest.raises(ConfigError) as caught:
        parse_job(text if text.startswith("job") else "job: notes\n" + text)
    assert caught.value.path == path
    assert str(caught.value).startswith(path)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "path", "words"),
    [
        ("model: {base: x}", "job", "is missing"),
        ("job: x", "model.base", "is missing; it is required with method lora"),
        ("job: x\nmodel: {}", "model.base", "is missing"),
        ("job: x\nmodel:", "model", "is null; allowed is a mapping with the keys base"),
        ("job: x\nmodel: {base: ''}", "model.base", "is ''"),
        ("job: a/b\nmodel: {base: x}", "job", "is 'a/b'; allowed is 1 to 63 letters"),
        ("job: '+'\nmodel: {base: x}", "job", "is '+'"),
        ("job: 7\nmodel: {base: x}", "job", "is 7; allowed is text"),
        ("", "", "must be a mapping"),
        ("- job: x", "", "must be a mapping"),
        ("job: [x", "", "is not YAML: line "),
        ("job: x\n---\njob: y", "", "is not YAML"),
        ("? [a]\n: 1", "", "a key in line 1 that is not text"),
        ("job: &name x\nmodel: {base: *name}", "", "aliases (*name) are not read"),
        ("[" * 5000, "", "nested too deeply"),
        ("job: \x00", "", "is not YAML"),
        ("job: !!int x", "", "can't be read"),
        ("job: !!bool x", "", "can't be read"),
        ("rounds: " + "9" * 5000, "", "can't be read"),
    ],
)
def test_a_file_that_is_wrong_as_a_whole_is_refused(text: str, path: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job(text)
    assert caught.value.path == path
    assert words in str(caught.value)


def test_a_job_that_breaks_a_rule_cannot_be_built_either() -> None:
    with pytest.raises(ConfigError, match=r"strategy is 'x'"):
        JobFile(job="a", model=parse_job(MINIMAL).model, strategy="x")


def test_a_file_past_the_cap_or_not_text_or_missing_is_refused(tmp_path: Path) -> None:
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (MAX_FILE_BYTES + 1))
    with pytest.raises(ConfigError, match="too large"):
        read_text(big)
    big.write_bytes(b"#" * MAX_FILE_BYTES)
    assert len(read_text(big)) == MAX_FILE_BYTES
    with pytest.raises(ConfigError, match="can't be read"):
        read_text(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="not UTF-8"):
        decode_text(b"job: \xff", "job.yaml")


@pytest.mark.parametrize(
    ("part", "key"),
    [
        ("{steps: 4}", "hub.steps"),
        ("{validation: v.txt, lr: 0.1}", "hub.lr"),
        ("{rung: resident}", "hub.rung"),
        ("{max_s: 5}", "hub.max_s"),
    ],
)
def test_a_key_of_the_hubs_text_without_a_text_is_refused(part: str, key: str) -> None:
    with pytest.raises(ConfigError, match="means nothing without text") as caught:
        parse_job(f"job: a\nmodel: {{base: b}}\nhub: {part}\n")
    assert caught.value.path == key


def test_the_hubs_text_needs_no_other_key() -> None:
    file = parse_job("job: a\nmodel: {base: b}\nhub: {validation: v.txt, batch: 2}\n")
    assert (file.hub.public_data, file.hub.validation, file.hub.batch) == (None, "v.txt", 2)
    with pytest.raises(ConfigError, match="streamed, with method prompt"):
        parse_job(
            "job: a\nmodel: {base: b}\nmethod: prompt\nhub: {public_data: p, rung: resident}\n"
        )


LORA = "job: x\nmodel: {base: b}\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (f"{LORA}method: prompt\nlocal: {{forward: {{}}}}", "method prompt has no LoRA factors"),
        (f"{LORA}rule: flexlora\nlocal: {{forward: {{}}}}", "takes no cores. Use rule"),
        (f"{LORA}strategy: fedprox\nlocal: {{forward: {{}}}}", "adds terms to gradients"),
        (
            f"{LORA}local: {{adversarial: {{epsilon: 1.0}}, forward: {{}}}}",
            "local.adversarial needs gradients",
        ),
    ],
)
def test_training_without_backprop_is_refused_where_it_can_not_be(text: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_job(text)
    assert caught.value.path == "local.forward"
    assert words in str(caught.value)


def test_nobody_trains_without_backprop_until_the_job_says_so() -> None:
    assert parse_job(LORA).local.forward is None
    forward = parse_job(f"{LORA}local: {{forward: {{}}}}").local.forward
    assert forward is not None
    assert (forward.side, forward.steps, forward.fresh) == (2, 140, 7)

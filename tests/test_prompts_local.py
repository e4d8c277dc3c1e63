"""Prompts by a model on this machine: tiny checkpoints in the hub's format, loaded by the real loading code."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from foley.prompts.clients.local import LocalClient
from foley.prompts.clients.protocol import ClientError, ClientSettings, Request
from foley.prompts.llm import LLMPrompts
from foley.prompts.protocol import ClassBrief, Setting
from foley.prompts.templates import read_instructions, read_templates

PROMPT_TEXTS = Path(__file__).resolve().parents[1] / "resources" / "prompts"
DOG = ClassBrief(0, "dog", ("bark",))
CAPTIONS = ["small dog yaps behind closed door", "hound growls near gate at dusk"]
CHAT = "{% for m in messages %}<{{ m.role }}> {{ m.content }} {% endfor %}<assistant>"
NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHAT
REQUEST = Request("tiny", "You describe sounds.", "dog", {"type": "object"}, 1.0, 0.95, 12, 7)

Save = Callable[..., Path]


@pytest.fixture(scope="module")
def save(tmp_path_factory: pytest.TempPathFactory) -> Save:
    """A function that saves a Llama of one layer which says ``answer`` to everything, or draws words at random."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    tokenizers = pytest.importorskip("tokenizers")

    def saved(answer: str | None, chat: str | None = CHAT, window: int = 2048) -> Path:
        folder = tmp_path_factory.mktemp("model") / "tiny-instruct"
        words = (answer or "howl bark yelp whine growl rain wind hum buzz click").split()
        assert len(set(words)) == len(words)  # each word alone says which one follows
        vocabulary = {word: number for number, word in enumerate(["<unk>", "</s>", "<assistant>", *words])}
        model = tokenizers.models.WordLevel(vocabulary, unk_token="<unk>")
        tokenizer = tokenizers.Tokenizer(model)
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
        fast = transformers.PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, unk_token="<unk>", eos_token="</s>", chat_template=chat
        )
        fast.save_pretrained(folder)
        torch.manual_seed(0)
        size = -(-len(vocabulary) // 4) * 4
        config = transformers.LlamaConfig(
            vocab_size=len(vocabulary), hidden_size=size, intermediate_size=8, num_hidden_layers=1,
            num_attention_heads=2, max_position_embeddings=window, eos_token_id=1, bos_token_id=None,
            tie_word_embeddings=False,
        )  # fmt: skip
        llama = transformers.LlamaForCausalLM(config)
        if answer is not None:
            # A table of what follows what: one-hot embeddings, layers that add nothing, and an output that shifts.
            follows = {
                2: 3,
                **{number: number + 1 for number in range(3, len(vocabulary) - 1)},
                len(vocabulary) - 1: 1,
            }
            with torch.no_grad():
                llama.model.embed_tokens.weight.copy_(torch.eye(len(vocabulary), size))
                llama.model.layers[0].self_attn.o_proj.weight.zero_()
                llama.model.layers[0].mlp.down_proj.weight.zero_()
                llama.lm_head.weight.zero_()
                for before, after in follows.items():
                    llama.lm_head.weight[after, before] = 30.0
        llama.save_pretrained(folder)
        return folder

    return saved


def writer(model: Path, cache: Path, **options: object) -> LLMPrompts:
    given = {
        "client": "local",
        "model": str(model),
        "count": 2,
        "critic": False,
        "max_output_tokens": 64,
        **options,
    }
    setting = Setting(
        "prompts.mine.options",
        read_templates(PROMPT_TEXTS / "templates.yaml", "esc50"),
        read_instructions(PROMPT_TEXTS / "instructions.yaml"),
        cache,
    )
    return LLMPrompts(LLMPrompts.Options(**given), setting)  # type: ignore[arg-type]


@pytest.mark.parametrize("chat", [CHAT, NO_SYSTEM], ids=["system", "no_system"])
def test_a_local_model_writes_prompts(chat: str, save: Save, tmp_path: Path) -> None:
    said = '{ "captions": [ "small dog yaps behind closed door", "hound growls near gate at dusk" ] }'
    model = save(said, chat)
    made = writer(model, tmp_path).write([DOG])
    assert [p.text for p in made.prompts] == CAPTIONS
    assert {p.model for p in made.prompts} == {"tiny-instruct"}  # no path of this machine
    (exchange,) = made.exchanges
    assert exchange.status == "ok" and exchange.output_tokens == len(said.split()) + 1
    assert exchange.input_tokens > 100 and "dog" in exchange.request
    # The answer is kept under the files' own fingerprint, wherever the folder lies.
    moved = model.rename(tmp_path / "tiny-instruct")
    assert writer(moved, tmp_path).write([DOG]) == made
    (moved / "config.json").write_text((moved / "config.json").read_text() + "\n")
    assert writer(moved, tmp_path).write([DOG]).exchanges[0].request_hash != exchange.request_hash


def test_sampling_is_seeded_and_bounded(save: Save) -> None:
    client = LocalClient(ClientSettings(str(save(None))))
    one = client.complete(REQUEST)
    assert one == client.complete(REQUEST) != client.complete(replace(REQUEST, seed=8))
    assert one.output_tokens <= 12 and (one.finish == "MAX_TOKENS") == (one.output_tokens == 12)
    greedy = replace(REQUEST, temperature=0.0)
    assert client.complete(greedy) == client.complete(replace(greedy, seed=8))
    assert json.loads(one.raw) == {"text": one.text}


def test_a_model_that_talks_nonsense_leaves_the_label(save: Save, tmp_path: Path) -> None:
    made = writer(save(None), tmp_path, rounds=2).write([DOG])
    assert [(p.text, p.strategy) for p in made.prompts] == [("dog sound", "label")]
    assert {exchange.status for exchange in made.exchanges} <= {"invalid", "cut_off"} and len(
        made.exchanges
    ) == 2


def test_models_that_cannot_be_used_are_named(save: Save, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for settings, message in [
        (ClientSettings("someone/model"), "needs `revision`, the 40 digits"),
        (ClientSettings("someone/model", revision="main"), "needs `revision`, the 40 digits"),
        (ClientSettings(str(tmp_path / "empty")), "can't be loaded"),
        (ClientSettings(str(save(None, chat=None))), "has no chat template"),
    ]:
        with pytest.raises(ClientError, match=message):
            LocalClient(settings)
    narrow = LocalClient(ClientSettings(str(save(None, window=16))))
    with pytest.raises(ClientError, match="reads 16 tokens at most"):
        narrow.complete(replace(REQUEST, text="woof " * 40))
    broken = LocalClient(ClientSettings(str(save(None, chat="{{ raise_exception('never') }}"))))
    with pytest.raises(ClientError, match=r"chat template .* fails: never"):
        broken.complete(REQUEST)

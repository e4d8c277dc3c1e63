"""What is known of classes without audio: class tables, word, attribute and sentence vectors."""

from __future__ import annotations

import csv
import gzip
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from foley.classes import word_vectors
from foley.classes.sentence_vectors import embed_sentences
from foley.classes.table import ClassInfo, ClassTable, from_labels, read_class_table
from foley.classes.vectors import class_vectors
from foley.classes.word_vectors import load_word_vectors

REPOSITORY = Path(__file__).resolve().parents[1]
ESC50_CLASSES = REPOSITORY / "resources" / "classes" / "esc50.yaml"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings and vectors, which are not part of the project."""
    path = Path(os.environ.get("FOLEY_SHARED_DATA", REPOSITORY.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set FOLEY_SHARED_DATA)")
    return path


# --- class tables ---

TABLE = """
attributes: [tonal, noisy]
classes:
  - {id: 3, label: wind, words: [wind], synonyms: [gust, "on"], attributes: [0, 1.0]}
  - {id: 0, label: crying_baby, words: [crying, baby]}
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "classes.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_class_table_is_read_in_the_order_of_its_ids(tmp_path: Path) -> None:
    assert read_class_table(written(tmp_path, TABLE)) == ClassTable(
        classes=(
            ClassInfo(0, "crying_baby", ("crying", "baby"), (), None),
            ClassInfo(3, "wind", ("wind",), ("gust", "on"), (0.0, 1.0)),
        ),
        attribute_names=("tonal", "noisy"),
    )


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id: 0", "id: 3", r"class id 3 occurs twice"),
        ("label: crying_baby", "label: wind", r"label 'wind' occurs twice"),
        ("[tonal, noisy]", "[tonal, tonal]", r"attribute 'tonal' occurs twice"),
        ("id: 0, ", "", r"class number 2 \(crying_baby\): missing id"),
        ("label: wind, words: [wind], ", "", r"class number 1: missing label, words"),
        ("synonyms:", "synonym:", r"\(wind\): unknown key 'synonym'; did you mean 'synonyms'\?"),
        ("synonyms:", "zzz:", r"\(wind\): unknown key 'zzz'; known are id, label"),
        ("attributes: [tonal", "atributes: [tonal", r"unknown key 'atributes'; did you mean 'attributes'"),
        ("attributes: [0, 1.0]", "attributes: [0]", r"\(wind\).*2 values.*tonal, noisy.*got 1 values"),
        ("attributes: [0, 1.0]", "attributes: [0, 1.5]", r"\(wind\): attribute noisy must be .*got 1\.5"),
        ("attributes: [0, 1.0]", "attributes: [0, .nan]", r"\(wind\): attribute noisy must be .*got nan"),
        ("attributes: [0, 1.0]", "attributes: [no, 1]", r"\(wind\): attribute tonal must be .*got False"),
        ("id: 0", "id: -1", r"\(crying_baby\): id must be a whole number from 0 up, got -1"),
        ("id: 0", "id: yes", r"\(crying_baby\): id must be .*got True"),
        ('"on"', "on", r"\(wind\): synonyms: True is no text to YAML; put it in quotes"),
        ("label: wind", "label: off", r"class number 1: label: False is no text to YAML"),
        (
            "words: [wind]",
            "words: wind",
            r"\(wind\): words: expected a list such as \[dog, bark\], got 'wind'",
        ),
        ("words: [wind]", "words: []", r"\(wind\): words is empty"),
        ("words: [wind]", "words: ['']", r"\(wind\): words: expected text, got ''"),
        ("  - {id: 3", "  - 7\n  - {id: 3", r"class number 1: expected keys and values .*got 7"),
        ("classes:", "classes: []\nrest:", r"unknown key 'rest'"),
        ("{id: 3", "{id: 3, [", r"not valid YAML"),
    ],
)
def test_a_bad_class_table_names_file_and_class(tmp_path: Path, old: str, new: str, message: str) -> None:
    assert old in TABLE
    path = written(tmp_path, TABLE.replace(old, new))
    with pytest.raises(ValueError, match=message) as error:
        read_class_table(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("text", ["", "classes:", "classes: []", "- dog", "classes: {dog: 0}"])
def test_an_empty_class_table_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError, match=r"classes\.yaml: "):
        read_class_table(written(tmp_path, text))


def test_a_table_from_labels_splits_words() -> None:
    labels = [
        "crying_baby",
        "street-music",
        "Air Conditioner",
        "CarHorn",
        "TVShow",
        "Rattle_(instrument)",
        "Grüße",
    ]
    table = from_labels(labels)
    assert [info.class_id for info in table.classes] == list(range(7))
    assert [info.label for info in table.classes] == labels
    assert [info.words for info in table.classes] == [
        ("crying", "baby"),
        ("street", "music"),
        ("air", "conditioner"),
        ("car", "horn"),
        ("tv", "show"),
        ("rattle", "instrument"),
        ("grüße",),
    ]
    with pytest.raises(ValueError, match="label 'dog' occurs twice"):
        from_labels(["dog", "dog"])
    with pytest.raises(ValueError, match=r"label '__' \(class 1\) holds no word"):
        from_labels(["dog", "__"])


# --- word vectors ---

VECTORS = {
    "the": [0.5, -0.25, 1.0],
    "dog": [1.0, 2.0, 3.0],
    "Paris": [4.0, 5.0, 6.0],
    "naïve": [7.0, 8.0, 9.0],
    "mp3": [0.1, 0.2, 0.3],
    "Dog": [-1.0, -2.0, -3.0],
}


def word2vec(kind: str, vectors: dict[str, list[float]] = VECTORS, count: int | None = None) -> bytes:
    """A word2vec file: text, binary as gensim writes it, or binary with line feeds as the C program does."""
    dimensions = len(next(iter(vectors.values()), [0.0]))
    data = f"{len(vectors) if count is None else count} {dimensions}\n".encode()
    for word, vector in vectors.items():
        if kind == "text":
            data += f"{word} {' '.join(map(str, vector))}\n".encode()
        else:
            data += word.encode() + b" " + np.array(vector, "<f4").tobytes() + (b"\n" if kind == "c" else b"")
    return data


@pytest.fixture(params=["text", "gensim", "c"])
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("block", [1 << 24, 5])
def test_word_vectors_of_every_format(
    tmp_path: Path, kind: str, zipped: bool, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_vectors, "_BLOCK_BYTES", block)  # tiny blocks cut words and values anywhere
    path = tmp_path / "vectors"
    path.write_bytes(gzip.compress(word2vec(kind)) if zipped else word2vec(kind))
    wanted = ["dog", "DOG", "paris", "naïve", "Mp3", "absent"]
    found = load_word_vectors(path, wanted)
    assert list(found) == wanted[:-1]
    expected = {"dog": "dog", "DOG": "dog", "paris": "Paris", "naïve": "naïve", "Mp3": "mp3"}
    for word, stored in expected.items():
        assert found[word].dtype == np.float32
        np.testing.assert_array_equal(found[word], np.float32(VECTORS[stored]))


def test_reading_stops_when_all_words_are_found(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(word2vec(kind, count=1_000_000))
    assert list(load_word_vectors(path, ["Paris", "the"])) == ["Paris", "the"]


@pytest.mark.parametrize("zipped", [False, True])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: str, zipped: bool) -> None:
    whole = gzip.compress(word2vec(kind)) if zipped else word2vec(kind)
    path = tmp_path / "vectors"
    for keep in range(len(whole) - 4):  # the last value's last characters may be missing unnoticed in text
        path.write_bytes(whole[:keep])
        with pytest.raises(ValueError) as error:
            load_word_vectors(path, ["dog", "absent"])
        assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"dog 1 2 3\n", r"line 1 must be .*GloVe"),
        (b"", r"line 1 must be"),
        (b"3 0\n", r"line 1 must be"),
        (b"\x00\x01\x02\n", r"line 1 must be"),
        (b"2 3\ndog 1 2\ncat 1 2 3\n", r"line 2: truncated or malformed: 2 values, expected 3"),
        (b"2 3\ncat 1 2 3\ndog 1 x 3\n", r"line 3: malformed: could not convert"),
        (b"1 3\ndog 1 inf 3\n", r"line 2: malformed: the vector of 'dog' isn't finite"),
        (b"1 3\ncat 1 2 3\ndog 1 2 3\n", r"line 3: more words than the 1 that line 1 announces"),
        (b"3 3\ncat 1 2 3\n", r"truncated: ends with line 2, but line 1 announces 3 words"),
        (b"1 3\ndog " + b"\x00\x00\xc0\x7f" * 3, r"byte 8: malformed: the vector of 'dog' isn't finite"),
        (word2vec("gensim", count=9), r"truncated at byte \d+, in word 7 of 9"),
        (word2vec("gensim", count=4), r"data goes on at byte 73, after the 4 words of 3 values"),
        (b"2 3\ncat" + b"\x00" * 10_000, r"malformed at byte 4: no end of word 1 of 2"),
    ],
)
def test_a_malformed_file_is_named(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=message) as error:
        load_word_vectors(path, ["dog", "absent"])
    assert str(path) in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        load_word_vectors(tmp_path / "nowhere", ["dog"])


# --- class vectors ---


def test_word_class_vectors_count_the_first_word_twice(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(word2vec("c"))
    table = ClassTable(
        classes=(
            ClassInfo(2, "the_dog", ("the", "dog"), ("mp3", "woof"), None),
            ClassInfo(5, "barking_dog", ("barking", "dog"), (), None),
        ),
        attribute_names=(),
    )
    the, dog, mp3 = (np.array(VECTORS[word]) for word in ("the", "dog", "mp3"))

    plain = class_vectors(table, "words", synonyms=False, path=path)
    assert plain.class_ids == [2, 5] and plain.vectors.dtype == np.float32
    np.testing.assert_allclose(plain.vectors, [(2 * the + dog) / 3, dog], rtol=1e-6)
    assert plain.missing == [(5, "barking")]

    richer = class_vectors(table, "words", synonyms=True, path=path)
    np.testing.assert_allclose(richer.vectors, [(2 * the + dog + mp3) / 4, dog], rtol=1e-6)
    assert richer.missing == [(2, "woof"), (5, "barking")]


def test_a_class_without_any_vector_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vectors"
    path.write_bytes(word2vec("text"))
    message = r"class 1 \(zzz_qqq\): none of its words \(zzz, qqq\) has a vector in .*vectors\. Add common"
    with pytest.raises(ValueError, match=message):
        class_vectors(from_labels(["dog", "zzz_qqq"]), "words", synonyms=True, path=path)


def test_attribute_class_vectors() -> None:
    infos = (ClassInfo(0, "wind", ("wind",), (), (0.0, 1.0)), ClassInfo(1, "bell", ("bell",), (), (0.9, 0.1)))
    made = class_vectors(ClassTable(infos, ("tonal", "noisy")), "attributes", synonyms=False)
    np.testing.assert_array_equal(made.vectors, np.float32([[0, 1], [0.9, 0.1]]))
    assert made.class_ids == [0, 1] and made.missing == []
    with pytest.raises(ValueError, match=r"class 0 \(dog\) has no attributes"):
        class_vectors(from_labels(["dog"]), "attributes", synonyms=False)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "words"}, "'words' need `path`"),
        ({"kind": "sentence"}, "'sentence' need `model`"),
        ({"kind": "sentence", "model": "m", "template": "a sound"}, "lacks the placeholder {label}"),
        ({"kind": "wrods"}, "unknown kind of class vectors 'wrods'; known are words, attributes, sentence"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        class_vectors(from_labels(["dog"]), synonyms=False, **arguments)


# --- sentence vectors ---


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of width 16 with its tokenizer, saved in the format of the hub."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("bert")
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens = [*special, "the", "sound", "of", "dog", "rain", "baby", "crying", "wail"]
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    transformers.BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=len(tokens),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        initializer_range=0.5,  # so that random weights tell words apart
    )
    transformers.BertModel(config).save_pretrained(folder)
    return folder


def test_sentence_vectors_pool_the_tokens_that_are_there(tiny_bert: Path) -> None:
    vectors = embed_sentences(["dog", "the sound of rain", "dog"], str(tiny_bert))
    assert vectors.shape == (3, 16) and vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    # "dog" was padded beside the longer sentence, and is not when alone.
    np.testing.assert_allclose(vectors[0], embed_sentences(["dog"], str(tiny_bert))[0], atol=1e-5)
    np.testing.assert_allclose(vectors[0], vectors[2], atol=1e-5)
    assert vectors[0] @ vectors[1] < 0.99
    many = embed_sentences(["dog"] * 64 + ["the sound of rain"], str(tiny_bert))  # more than one batch
    np.testing.assert_allclose(many[[0, 64]], vectors[:2], atol=1e-5)


def test_sentence_vectors_equal_the_definition(tiny_bert: Path) -> None:
    import torch
    from transformers import BertModel

    model = BertModel.from_pretrained(tiny_bert).eval()
    ids = torch.tensor([[2, 5, 6, 7, 9, 3]])  # [CLS] the sound of rain [SEP]
    with torch.no_grad():
        mean = model(ids).last_hidden_state[0].mean(0).numpy()
    ours = embed_sentences(["The sound of RAIN"], str(tiny_bert))[0]
    np.testing.assert_allclose(ours, mean / np.linalg.norm(mean), atol=1e-5)


def test_sentence_class_vectors(tiny_bert: Path) -> None:
    table = ClassTable((ClassInfo(4, "crying_baby", ("crying", "baby"), ("wail",), None),), ())
    plain = class_vectors(table, "sentence", synonyms=False, model=str(tiny_bert))
    np.testing.assert_allclose(
        plain.vectors, embed_sentences(["the sound of crying baby"], str(tiny_bert)), atol=1e-5
    )
    richer = class_vectors(table, "sentence", synonyms=True, model=str(tiny_bert), template="{label} sound")
    label, synonym = embed_sentences(["crying baby sound", "wail sound"], str(tiny_bert))
    mean = 2 * label + synonym
    np.testing.assert_allclose(richer.vectors[0], mean / np.linalg.norm(mean), atol=1e-5)
    assert richer.class_ids == [4] and richer.missing == []


def test_a_missing_sentence_model_is_named(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    with pytest.raises(
        FileNotFoundError, match=r"sentence model '.*/nowhere' \(revision default\) can't be loaded"
    ):
        embed_sentences(["dog"], str(tmp_path / "nowhere"))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match=r"pip install 'foley\[sentence\]'"):
        embed_sentences(["dog"], "anything")


def test_class_vectors_import_neither_torch_nor_pandas() -> None:
    code = "import sys, foley.classes.vectors; print({'torch', 'pandas', 'transformers'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- the ESC-50 class table and splits that come with the project ---


def test_esc50_classes_are_complete_and_all_their_words_plain() -> None:
    table = read_class_table(ESC50_CLASSES)
    assert [info.class_id for info in table.classes] == list(range(50))
    for info in table.classes:
        assert info.words == tuple(info.label.split("_"))
        assert 5 <= len(info.synonyms) <= 10, info.label
        words = [*info.words, *info.synonyms]
        assert all(word.isalpha() and word.islower() for word in words), info.label
        assert len(set(words)) == len(words), info.label


def test_esc50_labels_are_those_of_the_dataset(shared_data: Path) -> None:
    with open(shared_data / "esc50" / "meta" / "esc50.csv", newline="") as file:
        labels = {int(row["target"]): row["category"] for row in csv.DictReader(file)}
    assert {info.class_id: info.label for info in read_class_table(ESC50_CLASSES).classes} == labels


def test_esc50_zero_shot_splits() -> None:
    text = (REPOSITORY / "resources" / "splits" / "zero_shot" / "esc50.yaml").read_text()
    splits = yaml.safe_load(text)["splits"]
    labels = {info.label for info in read_class_table(ESC50_CLASSES).classes}
    assert list(splits) == ["fold0", "fold1", "fold2", "fold3", "test"]
    unseen = [label for split in splits.values() for label in split["unseen"]]
    assert len(unseen) == 50 and set(unseen) == labels  # each class is unseen in just one split
    for name, split in splits.items():
        excluded = split.get("exclude", [])
        assert set(excluded) == (set() if name == "test" else set(splits["test"]["unseen"]))
        assert len(labels - set(split["unseen"]) - set(excluded)) == (40 if name == "test" else 30)


def test_esc50_class_vectors_from_real_words(shared_data: Path) -> None:
    path = shared_data / "vectors" / "words-300d.bin"
    if not path.is_file():
        pytest.skip(f"no {path}")
    table = read_class_table(ESC50_CLASSES)
    made = class_vectors(table, "words", synonyms=True, path=path)
    assert made.vectors.shape == (50, 300) and np.isfinite(made.vectors).all()
    assert len(made.missing) < 40
    rows = made.vectors / np.linalg.norm(made.vectors, axis=1, keepdims=True)
    at = {info.label: i for i, info in enumerate(table.classes)}

    def alike(one: str, other: str) -> float:
        return float(rows[at[one]] @ rows[at[other]])

    for near, far in [("rooster", "vacuum_cleaner"), ("cat", "engine"), ("sheep", "clock_tick")]:
        assert alike("dog", near) > alike("dog", far)
    assert alike("rain", "thunderstorm") > alike("rain", "keyboard_typing")
    assert alike("airplane", "helicopter") > alike("airplane", "sneezing")


def test_attributes_mean_the_same_in_every_table_that_has_them() -> None:
    tables = [read_class_table(path) for path in sorted(ESC50_CLASSES.parent.glob("*.yaml"))]
    graded = [table for table in tables if table.attribute_names]
    assert sorted(len(table.classes) for table in graded) == [12, 50]
    assert len({table.attribute_names for table in graded}) == 1
    for table in graded:
        rows = [info.attributes for info in table.classes]
        assert None not in rows and len(set(rows)) == len(rows)

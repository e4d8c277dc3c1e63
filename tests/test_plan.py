"""What the config asks to download, and errors before any job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from foley import config
from foley.config import ConfigError
from foley.download.sources import HubSource
from foley.plan import Plan
from foley.plan.data import DataPlan

ZIP = "33c8ce9eb2cf0b1c2f8bcf322eb349b6be34dbb6.zip"
TAR = "UrbanSound8K.tar.gz"
COMMIT = "0123456789abcdef0123456789abcdef01234567"
VECTORS = {"kind": "words", "size_bytes": 5}


@pytest.fixture(autouse=True)
def _online(monkeypatch: pytest.MonkeyPatch) -> None:
    for key in ("FOLEY_OFFLINE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(key, raising=False)


def plan(
    tmp_path: Path, datasets: dict[str, Any], *, vectors: dict[str, Any] | None = None, **more: Any
) -> DataPlan:
    raw = {"datasets": datasets, "data": str(tmp_path / "data"), "cache": str(tmp_path / "cache")}
    loaded = config.load(raw | {"class_vectors": vectors or {}} | more)
    return DataPlan(loaded, tmp_path, list(datasets), list(vectors or {}), trust_cache=False)


def hub(*patterns: str) -> dict[str, Any]:
    options = {"repo": "owner/name", "revision": COMMIT, "patterns": list(patterns)}
    return {"kind": "huggingface", "options": options}


def test_datasets_of_one_archive_share_its_download(tmp_path: Path) -> None:
    shared = plan(tmp_path, {"esc50": {}, "esc10": {"kind": "esc50", "options": {"subset": "esc10"}}})
    (download,) = shared.all_downloads.values()
    assert download.wanted_by == "esc50"
    assert shared.download("esc50", "esc50") is download


def test_what_is_fetched_counts_but_not_where_from(tmp_path: Path) -> None:
    def content(**entry: Any) -> Any:
        return plan(tmp_path, {"esc50": entry}).content("esc50", "esc50")

    published = content()
    assert content(mirror="https://mirror.org/sounds") == published
    other = {ZIP: {"checksum": f"md5:{1:032x}"}}
    assert content(downloads=other) != published


def test_datasets_that_want_different_files_at_one_place(tmp_path: Path) -> None:
    other = {"kind": "esc50", "downloads": {ZIP: {"checksum": f"md5:{1:032x}"}}}
    with pytest.raises(
        ConfigError, match=r"`esc50` and `mine` both fetch esc50 into .*data/esc50, but with different"
    ):
        plan(tmp_path, {"esc50": {}, "mine": other})
    one, two = (VECTORS | {"path": f"https://{host}.org/words.bin"} for host in ("a", "b"))
    with pytest.raises(ConfigError, match=r"`one` and `two` both fetch words\.bin"):
        plan(tmp_path, {}, vectors={"one": one, "two": two | {"size_bytes": 6}})


def test_datasets_may_take_different_files_of_a_repository(tmp_path: Path) -> None:
    found = plan(tmp_path, {"clean": hub("clean/*"), "other": hub("other/*")}).all_downloads
    assert [d.source.patterns for d in found.values() if isinstance(d.source, HubSource)] == [
        ("clean/*",),
        ("other/*",),
    ]
    assert len({d.root for d in found.values()}) == 1


def test_the_query_of_a_mirror_goes_with_it(tmp_path: Path) -> None:
    made = plan(tmp_path, {"urbansound8k": {"mirror": "https://mirror.org/sounds/?signature=s3cret"}})
    (file,) = made.source_as_data("urbansound8k", "urbansound8k")["files"]
    assert file["url"] == f"https://mirror.org/sounds/{TAR}?signature=s3cret"
    assert not any("s3cret" in line for line in made.announcement())


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"kind": "esc50", "mirror": "/data/mirror"}, r"`datasets\.mine\.mirror`: .*only http://"),
        (
            {"kind": "esc50", "downloads": {ZIP: {"url": "ftp://mirror.org/x.zip"}}},
            rf"`datasets\.mine\.downloads\.{ZIP}\.url`: ftp://mirror\.org/x\.zip: only http://",
        ),
        (hub("*") | {"mirror": "https://hub.org"}, r"`datasets\.mine\.mirror` .*HF_ENDPOINT"),
        ({"kind": "esc50", "downloads": {"esc50.zip": {}}}, rf"names `esc50\.zip`, .*{ZIP}"),
    ],
)
def test_places_that_nothing_comes_from(tmp_path: Path, entry: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(tmp_path, {"mine": entry})


def test_offline_a_mirror_on_this_machine_will_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=TAR):
        plan(tmp_path, {"urbansound8k": {"mirror": "https://mirror.org"}}, offline=True)
    plan(tmp_path, {"urbansound8k": {"mirror": tmp_path.as_uri()}}, offline=True)


@pytest.mark.parametrize("kind", ["activitynet", "fsc22", "iemocap"])
def test_what_only_a_person_can_fetch(tmp_path: Path, kind: str) -> None:
    place = tmp_path / "data" / kind
    with pytest.raises(ConfigError) as raised:
        plan(tmp_path, {kind: {}})
    assert f". Put it at {place}, or point `datasets.{kind}.path` at it" in str(raised.value)
    left_out = plan(tmp_path, {kind: {"optional": True}})
    assert left_out.datasets == [] and str(place) in left_out.left_out[kind]


def test_a_place_that_is_given_must_be_there(tmp_path: Path) -> None:
    """Optional datasets are left out where nobody said where they are, not where the place is misspelt."""
    found = plan(tmp_path, {"iemocap": {"optional": True}, "esc50": {}})
    assert found.datasets == ["esc50"] and "IEMOCAP" in found.left_out["iemocap"]
    with pytest.raises(ConfigError, match=r"datasets\.iemocap\.path"):
        plan(tmp_path, {"iemocap": {"optional": True, "path": str(tmp_path / "nowhere")}})
    with pytest.raises(ConfigError, match="made by a rule; leave `path` out"):
        plan(tmp_path, {"soundbox": {"path": str(tmp_path)}})


def whole_plan(tmp_path: Path, **more: Any) -> Plan:
    raw = {
        "cache": str(tmp_path / "cache"),
        "datasets": {"esc50": {}, "esc10": {"kind": "esc50", "options": {"subset": "esc10"}}},
        "features": {"logmel": {}},
        "embeddings": {"scratch": {"encoder": "yamnet", "feature": "logmel"}},
        "class_vectors": {"words": VECTORS | {"path": "https://u:secret@host.org/words.bin?sig=SECRET"}},
        "methods": {"ale": {}},
        "zero_shot": {
            "datasets": ["esc50", "esc10"],
            "embeddings": ["scratch"],
            "class_vectors": ["words"],
            "methods": ["ale"],
        },
    }
    return Plan(raw | more, Path(__file__).resolve().parents[1] / "resources")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"esc51": {"window_s": 2.0}}, r"features\.logmel\.for_dataset.*esc51.*did you mean `esc50`"),
        ({"esc10": {"window_ms": 2}}, r"features\.logmel\.for_dataset\.esc10.*window_ms"),
        ({"esc10": {"window_s": -1.0}}, r"features\.logmel\.for_dataset\.esc10"),
    ],
)
def test_wrong_options_of_a_feature_on_one_dataset(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        whole_plan(tmp_path, features={"logmel": {"for_dataset": change}})


def test_each_network_has_generators_of_its_own(tmp_path: Path) -> None:
    """In a nested design; the seeds of the study itself stay what they are."""
    found = whole_plan(
        tmp_path,
        zero_shot={
            "datasets": ["esc50"], "embeddings": ["scratch"], "class_vectors": ["words"], "methods": ["ale"],
            "seeds": 6, "seed": 3, "variance": {"embedding_seeds": 3, "generator_seeds": 4},
        },
    )  # fmt: skip
    first, *others = found.replicates("scratch")
    assert found.generator_seeds(first) == [3, 4, 5, 6, 7, 8] and found.grid_seeds(first) == [3, 4, 5, 6]
    for network in others:
        assert found.generator_seeds(network) == found.grid_seeds(network)
    seeds = [seed for network in (first, *others) for seed in found.grid_seeds(network)]
    assert len(set(seeds)) == len(seeds) == 12
    assert min(seeds) >= 0 and max(seeds) < 2**31  # as the tables keep them


def measuring(tmp_path: Path, *, more_methods: dict[str, Any] | None = None, **parts: Any) -> Plan:
    """A plan with methods with and without a generator, on two embeddings and two kinds of class vectors."""
    return whole_plan(
        tmp_path,
        embeddings={"scratch": {"encoder": "yamnet", "feature": "logmel"}},
        class_vectors={name: VECTORS | {"path": "https://host.org/words.bin"} for name in ("words", "others")},
        methods={
            "ale": {}, "ridge": {"classifier": "ridge"}, "ddpm": {"generator": "ddpm"},
            "lisgan": {"generator": "lisgan"}, **(more_methods or {}),
        },
        zero_shot={
            "datasets": ["esc50"], "embeddings": ["scratch"], "class_vectors": ["words", "others"],
            "methods": ["ale", "ridge", "ddpm", "lisgan"], **parts,
        },
    )  # fmt: skip


def test_methods_may_be_left_out_of_what_takes_long(tmp_path: Path) -> None:
    found = measuring(tmp_path, learning_curve={}, variance={}, quality={})
    assert found.curve_methods == found.quality_methods == ["ddpm", "lisgan"]
    assert found.variance_methods == ["ale", "ridge", "ddpm", "lisgan"]
    assert found.not_measured == {} and "not_measured" not in found.summary()
    some = measuring(
        tmp_path, learning_curve={"methods": ["ddpm"]}, variance={"methods": ["lisgan", "ale"]}, quality={}
    )
    assert some.curve_methods == ["ddpm"] and some.variance_methods == ["ale", "lisgan"]
    assert some.summary()["not_measured"] == {"learning_curve": ["lisgan"], "variance": ["ridge", "ddpm"]}
    none = measuring(tmp_path)
    assert none.curve_methods == none.variance_methods == none.quality_methods == []


@pytest.mark.parametrize("part", ["learning_curve", "variance", "quality"])
def test_methods_to_measure_that_there_are_not(tmp_path: Path, part: str) -> None:
    with pytest.raises(
        ConfigError, match=rf"zero_shot\.{part}\.methods names `lisgna`.*did you mean `lisgan`"
    ):
        measuring(tmp_path, **{part: {"methods": ["lisgna"]}})
    with pytest.raises(ConfigError, match=rf"zero_shot\.{part}\.methods is empty"):
        measuring(tmp_path, **{part: {"methods": []}})
    if part != "variance":
        with pytest.raises(ConfigError, match="`ridge`, which has no generator"):
            measuring(tmp_path, **{part: {"methods": ["ridge"]}})


def test_schedules_are_told_where_they_differ(tmp_path: Path) -> None:
    assert "schedules" not in measuring(tmp_path).summary()
    published = {"batch_size": 1, "epochs": 50}
    found = measuring(
        tmp_path,
        datasets=["esc50", "esc10"],
        methods=["slow", "ridge", "ddpm", "lisgan"],
        baseline="slow",
        more_methods={
            "slow": {"classifier_options": published},
            "lisgan": {
                "generator": "lisgan", "classifier_options": published,
                "for_dataset": {"esc10": {"classifier_options": {"epochs": 3}}},
            },
        },
    )  # fmt: skip
    assert found.summary()["schedules"] == {
        "esc50": {"slow": published, "ddpm": {}, "lisgan": published},
        "esc10": {"slow": published, "ddpm": {}, "lisgan": published | {"epochs": 3}},
    }


def test_only_what_a_learning_curve_reads_is_made_in_its_numbers(tmp_path: Path) -> None:
    found = measuring(
        tmp_path,
        variance={"embedding_seeds": 2},
        learning_curve={"samples_per_class": [5, 80], "methods": ["ddpm"]},
    )
    network, replicate = found.replicates("scratch")
    assert found.samples_made("ddpm", "esc50", network, "words") == 80
    assert found.samples_made("ddpm", "esc50", replicate, "words") == 40
    assert found.samples_made("ddpm", "esc50", network, "others") == 40
    assert found.samples_made("lisgan", "esc50", network, "words") == 40
    few = measuring(tmp_path, learning_curve={"samples_per_class": [5]})
    assert few.samples_made("ddpm", "esc50", network, "words") == 40


def test_no_secret_of_a_url_reaches_the_page(tmp_path: Path) -> None:
    summary = whole_plan(tmp_path).summary()
    assert summary["class_vectors"]["words"]["path"] == "https://host.org/words.bin"
    assert "secret" not in str(summary).lower()


def test_a_class_table_is_needed_where_the_dataset_is_studied(tmp_path: Path) -> None:
    def found(dataset: str) -> Plan:
        words = VECTORS | {"path": "https://host.org/words.bin", "classes": {dataset: "nowhere.yaml"}}
        datasets = {"esc50": {}, "esc10": {"kind": "esc50"}, "spare": {"kind": "esc50"}}
        return whole_plan(tmp_path, class_vectors={"words": words}, datasets=datasets)

    assert found("spare").data.vectors_table("esc50", "words") is None
    with pytest.raises(ConfigError, match=r"class_vectors\.words\.classes\.esc50`: no file at nowhere\.yaml"):
        found("esc50")


def test_a_subset_has_splits_of_its_own(tmp_path: Path) -> None:
    """ESC-50's published splits name classes that ESC-10 lacks."""
    found = whole_plan(tmp_path)
    assert found.splits("esc50") == ["fold0", "fold1", "fold2", "fold3", "test"]
    assert found.splits_file("esc10") is None and found.splits("esc10")[0] == "fold0"


def test_when_every_dataset_is_left_out(tmp_path: Path) -> None:
    optional = {"optional": True}
    raw: dict[str, Any] = {
        "datasets": {"fsc22": optional, "iemocap": optional, "emodb": {}},
        "report": {"datasets": ["fsc22", "iemocap"]},
        "data": str(tmp_path / "data"),
        "cache": str(tmp_path / "cache"),
    }
    with pytest.raises(ConfigError) as raised:
        Plan(raw, tmp_path)
    for kind in ("fsc22", "iemocap"):
        assert f"{kind}: `datasets.{kind}.path` is not given" in str(raised.value)
        assert str(tmp_path / "data" / kind) in str(raised.value)
    # One that is here is enough.
    raw["report"] = {"datasets": ["fsc22", "iemocap", "emodb"]}
    assert Plan(raw, tmp_path).datasets == ["emodb"]


@pytest.mark.parametrize("weights", ["laion/clap-htsat-unfused", "https://host.org/clap.zip"])
def test_clap_is_read_from_a_folder(tmp_path: Path, weights: str) -> None:
    def found(weights: str) -> Plan:
        study = {
            "datasets": ["esc50"],
            "embeddings": ["clap"],
            "class_vectors": ["words"],
            "methods": ["ale"],
        }
        return whole_plan(
            tmp_path, embeddings={"clap": {"encoder": "clap", "weights": weights}}, zero_shot=study
        )

    with pytest.raises(ConfigError, match=r"`embeddings.clap.weights` .* `clap` reads a folder"):
        found(weights)
    assert found(str(tmp_path)).local_weights("clap") == str(tmp_path)

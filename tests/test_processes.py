"""Training in several processes: what one process would learn, resumed when killed, and no process left behind."""

from __future__ import annotations

import dataclasses
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from foley import tables
from foley.generators.audio.mel_diffusion import MelDiffusion
from foley.studies.audio.train_generator import train_generator
from foley.tables.features import HISTORY
from foley.training.loop import NonFiniteLoss
from foley.training.processes import ProcessGroup, launch
from in_processes import lose_one, train_until_killed, train_with_scarce_memory
from test_audio_generate import TINY, Toy, make_toy
from test_mel_diffusion import TINY as SMALL
from test_mel_diffusion import fitted


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_shares_are_consecutive_and_even() -> None:
    for count in range(9):
        shares = [list(range(count))[ProcessGroup(rank, 3).share(count)] for rank in range(3)]
        assert [row for share in shares for row in share] == list(range(count))
        assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_one_process_needs_no_launch() -> None:
    with pytest.raises(ValueError, match="at least 2"):
        launch(lose_one, 1)
    alone, numbers = ProcessGroup(), torch.ones(2)
    alone.add_up([numbers])
    assert alone.is_main and alone.agree("x") and numbers.tolist() == [1, 1]


def training(toy: Toy, output: Path, **more: Any) -> dict[str, Any]:
    # Of 8 clips in batches of 7 the second batch is one clip: a process has no share of it.
    options = dataclasses.replace(TINY, batch_size=7, epochs=5)
    return {
        "output": output, "history": output.parent / f"{output.name}.parquet", "generator": MelDiffusion,
        "options": options, "seed": 5, "audio": toy.shards(1), "partition": toy.partition, "classes": toy.classes,
        **more,
    }  # fmt: skip


KILLED = """
import pickle, sys
from pathlib import Path
from foley.training.processes import launch
function, folder, given = pickle.loads(Path(sys.argv[1]).read_bytes())
launch(function, 2, folder, 2, **given)
"""


def test_two_processes_learn_what_one_does_and_go_on_where_they_were_killed(tmp_path: Path) -> None:
    toy = make_toy(tmp_path)
    train_generator(**training(toy, tmp_path / "one"))

    given = training(toy, tmp_path / "two", checkpoints=tmp_path)
    (tmp_path / "call").write_bytes(pickle.dumps((train_until_killed, tmp_path, given)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "call")], env=environment)
    assert killed.returncode == -9
    pids = [int(path.stem) for path in tmp_path.glob("*.pid")]
    assert len(pids) == 2
    until = time.monotonic() + 10
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() < until, "processes outlive their caller"
        time.sleep(0.05)
    assert not (tmp_path / "two").exists()
    (file,) = (tmp_path / "checkpoints").iterdir()
    assert torch.load(file, weights_only=True)["epochs_done"] == 2

    model = train_generator(**given, processes=2)
    assert model.class_ids == ("dog", "sea_waves")
    assert not list((tmp_path / "checkpoints").iterdir())
    one, two = (load_file(next((tmp_path / name).rglob("*.safetensors"))) for name in ("one", "two"))
    for name, weight in one.items():
        # A key's bias changes no attention: its gradient is nothing but rounding, which Adam makes large.
        if not name.endswith("to_k.bias"):
            torch.testing.assert_close(two[name], weight, atol=1e-4, rtol=0, msg=name)
    ours, theirs = (
        tables.read(tmp_path / f"{name}.parquet", HISTORY)["value"].to_pylist() for name in ("one", "two")
    )
    assert len(ours) == 5 and ours == pytest.approx(theirs, rel=1e-4)


def test_memory_of_one_process_and_a_broken_clip_of_one_concern_all(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    options = dataclasses.replace(SMALL, ema_decay=0.0, epochs=1)
    with pytest.raises(NonFiniteLoss, match=r"number \d, has the clips .*clip-4"):
        launch(train_with_scarce_memory, 2, tmp_path / "weights", options)
    assert "[process 1] mel_diffusion: out of memory; a batch is now taken in 2 parts" in caplog.text
    alone = fitted(ema_decay=0.0, epochs=1)
    found, rows = torch.load(tmp_path / "weights", weights_only=True)
    for weight, parameter in zip(found, alone.trained.parameters(), strict=True):
        torch.testing.assert_close(weight, parameter.detach(), atol=1e-4, rtol=0)
    assert rows[-1][2] == pytest.approx(alone.history.last("loss"), rel=1e-4)


def test_a_killed_process_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="process 1 of 2 was killed by SIGKILL"):
        launch(lose_one, 2, tmp_path)
    assert not (tmp_path / "went on").exists()

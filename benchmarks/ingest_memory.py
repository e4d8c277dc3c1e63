"""Peak memory of ingesting and extracting a shard, as the shard grows."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from measure import Table, times

TITLE = "Memory of a shard's job"
# Short clips: what grows with their number would show, and 20,000 are done in a minute or two.
SAMPLE_RATE_HZ, CLIP_S = 22_050, 0.25
# Each job and its budget; whoever lists a dataset holds its list.
JOBS = {"index_dataset": "a list of the clips", "ingest_shard": "constant", "extract_shard": "constant"}


def write_clips(folder: Path, count: int) -> None:
    """`count` clips, each different."""
    import numpy as np
    import soundfile

    (folder / "raw" / "clips").mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(count):
        clip = 0.1 * rng.standard_normal(round(CLIP_S * SAMPLE_RATE_HZ), dtype=np.float32)
        soundfile.write(
            folder / "raw" / "clips" / f"{number:06d}.wav", clip, SAMPLE_RATE_HZ, subtype="PCM_16"
        )


def do_job(job: str, folder: Path) -> None:
    """One rule's library call, in a process of its own."""
    if job == "index_dataset":
        from foley.datasets.folder import Folder
        from foley.datasets.index import index_dataset

        index_dataset(
            folder / "manifest.parquet",
            folder / "classes.parquet",
            kind=Folder(),
            root=folder / "raw",
            shards=1,
        )
    elif job == "ingest_shard":
        from foley.datasets.folder import Folder
        from foley.datasets.ingest import IngestOptions, ingest_shard

        ingest_shard(
            folder / "audio.parquet",
            folder / "rejected.parquet",
            dataset="bench",
            kind=Folder(),
            root=folder / "raw",
            shards=1,
            shard=0,
            options=IngestOptions(),
            cache=folder / "cache",
        )
    else:
        from foley.features.extract import extract_shard
        from foley.features.logmel import LogMel

        extract_shard(folder / "features.parquet", audio=folder / "audio.parquet", feature=LogMel())


def peak_bytes() -> int:
    """Largest resident memory of this process so far.

    From /proc where there is one: `getrusage` keeps the peak of the process that started this one.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
        return int(line.split()[1]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def measured(job: str, folder: Path) -> int:
    """Peak memory of a job in a fresh process."""
    command = [sys.executable, str(Path(__file__).resolve()), job, str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return int(done.stdout.splitlines()[-1])


def run(quick: bool) -> list[Table]:
    from foley.datasets.folder import Folder
    from foley.datasets.tree import fingerprint

    few, many = (20, 100) if quick else (1_000, 20_000)
    peaks: dict[tuple[str, int], int] = {}
    for count in (few, many):
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary) / "data"
            write_clips(folder, count)
            # As the main process leaves them for its jobs.
            fingerprint(folder / "raw", 1, folder / "cache", media=Folder.media)
            for job in JOBS:
                peaks[job, count] = measured(job, folder)
    rows = [
        (
            job,
            f"{peaks[job, few] / 2**20:.0f}",
            f"{peaks[job, many] / 2**20:.0f}",
            times(peaks[job, many] / peaks[job, few]),
            budget,
        )
        for job, budget in JOBS.items()
    ]
    columns = ("job", f"{few:,} clips, MiB", f"{many:,} clips, MiB", "ratio", "budget")
    return [
        Table(f"Peak resident memory, a fresh process each; clips of {CLIP_S} s in one shard.", columns, rows)
    ]


if __name__ == "__main__":
    do_job(sys.argv[1], Path(sys.argv[2]))
    print(peak_bytes())

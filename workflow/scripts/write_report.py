"""One page: the verdict, leaderboards, classes, maps, a gallery and the data."""

from pathlib import Path

from foley.runtime.job import run_job


def grouped(names, paths):
    """Paths of each name, in their order."""
    found = {}
    for name, path in zip(names, paths, strict=True):
        found.setdefault(tuple(name), []).append(Path(path))
    return found


with run_job(snakemake) as job:
    from foley.report.page import (
        DatasetTables,
        FoundationTables,
        MapTable,
        SpeechTables,
        write_report,
    )

    files, params = snakemake.input, snakemake.params
    prompts = {
        tuple(name): (Path(used), Path(refused))
        for name, used, refused in zip(params.prompts, files.prompts, files.refused, strict=True)
    }
    heard = list(zip(params.synthetic, map(Path, files.synthetic_gallery), strict=True))
    datasets = [
        DatasetTables(
            dataset=dataset,
            clips=Path(files.clips[number]),
            rejected=Path(files.rejected[number]),
            classes=Path(files.classes[number]),
            gallery=Path(files.gallery[number]) if files.gallery else None,
            missing_words=[Path(path) for path in params.missing_words.get(dataset, ())],
            leaks=Path(files.leaks[number]),
            manifest=Path(files.manifests[number]),
            facts=params.facts[number],
            synthetic_galleries=[path for its, path in heard if its == dataset],
        )
        for number, dataset in enumerate(params.datasets)
    ]
    write_report(
        Path(snakemake.output.page),
        datasets=datasets,
        config_summary=dict(params.summary),
        # Absent where no study ran.
        scores=Path(str(files.scores)) if files.scores else None,
        predictions=[Path(path) for path in files.predictions],
        quality=[Path(path) for path in files.quality],
        maps=[
            MapTable(tuple(title), Path(path)) for title, path in zip(params.maps, files.maps, strict=True)
        ],
        prompted=FoundationTables(
            costs=[Path(path) for path in files.costs],
            choices=[Path(path) for path in files.choices],
            counts=[Path(path) for path in files.counts],
            kept=grouped(params.kept, files.kept),
            prompts=prompts,
        ),
        spoken=SpeechTables(
            kept_apart=[Path(path) for path in files.kept_apart],
            backgrounds=[Path(path) for path in files.backgrounds],
            prompts={name[1]: prompts[tuple(name)] for name in params.background_prompts},
        ),
        published=[Path(path) for path in files.published],
        figures={name: Path(snakemake.output[name]) for name in ("leaderboard", "classes", "map")},
        methods=params.methods,
        title=params.title,
        provenance=job.provenance,
    )

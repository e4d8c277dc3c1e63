"""Published text-to-audio models: pinned commits and licences. No torch here, so that cards are written in a moment.

Commits and licences were read off the models' pages on huggingface.co. A model that is not listed can be used all the
same: name its commit and, for the card of what it makes, its licence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

CC_BY_NC = "CC BY-NC 4.0"
CC_BY_NC_SA = "CC BY-NC-SA 4.0"


@dataclass(frozen=True)
class Licence:
    """A licence as the Hugging Face hub writes it in the head of a card.

    identifier: of the hub's list, or ``other`` or ``unknown``.
    name: for people.
    url: its text.
    """

    identifier: str
    name: str
    url: str | None = None


LICENCES = {
    CC_BY_NC: Licence("cc-by-nc-4.0", CC_BY_NC, "https://creativecommons.org/licenses/by-nc/4.0/"),
    CC_BY_NC_SA: Licence(
        "cc-by-nc-sa-4.0", CC_BY_NC_SA, "https://creativecommons.org/licenses/by-nc-sa/4.0/"
    ),
    "Stability AI Community License": Licence(
        "other", "Stability AI Community License", "https://stability.ai/license"
    ),
}
# What no one holds rights in: noise that a formula makes.
NO_MODEL = Licence("cc0-1.0", "CC0 1.0", "https://creativecommons.org/publicdomain/zero/1.0/")


@dataclass(frozen=True)
class PublishedModel:
    """A checkpoint on the hub.

    revision: a commit of it; None where nobody has pinned one here.
    parts: models under other licences that it needs, as ``name (licence)``.
    """

    title: str
    licence: Licence
    paper: str
    revision: str | None = None
    parts: tuple[str, ...] = ()


PUBLISHED = {
    "facebook/audiogen-medium": PublishedModel(
        "AudioGen medium (1.5 B)", LICENCES[CC_BY_NC], "https://arxiv.org/abs/2209.15352",
        "1277dd7dfd8fa57a205a70acc5de0ee90804502f", ("t5-large (Apache 2.0)",),
    ),
    "facebook/musicgen-small": PublishedModel(
        "MusicGen small (300 M)", LICENCES[CC_BY_NC], "https://arxiv.org/abs/2306.05284",
        "4c8334b02c6ec4e8664a91979669a501ec497792", ("t5-base (Apache 2.0)",),
    ),
    "facebook/musicgen-medium": PublishedModel(
        "MusicGen medium (1.5 B)", LICENCES[CC_BY_NC], "https://arxiv.org/abs/2306.05284",
        "12547f3ab30e662c198273ea22994e3c1a98131b", ("t5-base (Apache 2.0)",),
    ),
    "cvssp/audioldm-m-full": PublishedModel(
        "AudioLDM medium", LICENCES[CC_BY_NC_SA], "https://arxiv.org/abs/2301.12503",
        "c04e06d4b783f39b9bfe1aae0f51b8909912dae7",
    ),
    "cvssp/audioldm2": PublishedModel(
        "AudioLDM 2", LICENCES[CC_BY_NC_SA], "https://arxiv.org/abs/2308.05734",
        "c8e7e189d324425c05c4c2f81214041ef4107983",
    ),
    "cvssp/audioldm2-large": PublishedModel(
        "AudioLDM 2 large", LICENCES[CC_BY_NC_SA], "https://arxiv.org/abs/2308.05734",
        "4b0b875a9e0c5305dfc917da808584e50e1c7ed4",
    ),
    # Gated: whoever accepts its licence sees the commits.
    "stabilityai/stable-audio-open-1.0": PublishedModel(
        "Stable Audio Open 1.0", LICENCES["Stability AI Community License"], "https://arxiv.org/abs/2407.14358",
        None, ("t5-base (Apache 2.0)",),
    ),
}  # fmt: skip


def published_model(model: str) -> PublishedModel | None:
    """What is known of a hub id; its case does not matter, as on the hub."""
    return next((known for name, known in PUBLISHED.items() if name.casefold() == model.casefold()), None)


def pinned(model: str, revision: str | None) -> str:
    """The commit of a hub model: the one given, or the one pinned here.

    Raises:
        ValueError: there is none, or it is a branch or tag, which may move.
    """
    known = PUBLISHED.get(model)
    commit = revision or (known.revision if known else None)
    if commit is None:
        raise ValueError(
            f"model {model!r} is neither a folder nor pinned: give `revision`, a commit of 40 hex digits, which "
            f"`git ls-remote https://huggingface.co/{model}` shows"
        )
    if not re.fullmatch(r"[0-9a-f]{40}", commit):
        raise ValueError(
            f"model {model!r}: revision {commit!r} is no commit of 40 hex digits, and a branch or tag may move; "
            f"`git ls-remote https://huggingface.co/{model}` shows the commits"
        )
    return commit

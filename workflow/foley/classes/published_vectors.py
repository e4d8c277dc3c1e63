"""Published word vectors that the config may name by their address alone: size and checksum are known here."""

from __future__ import annotations

from foley.download.sources import RemoteFile

# Figures from the list that gensim's downloader reads (github.com/piskvorky/gensim-data, list.json).
_RELEASES = "https://github.com/RaRe-Technologies/gensim-data/releases/download"
KNOWN = {
    file.url: file
    for file in (
        # Google News, 3 million words and phrases, the vectors of the zero-shot study.
        RemoteFile(
            f"{_RELEASES}/word2vec-google-news-300/word2vec-google-news-300.gz",
            1_743_563_840,
            "md5:a5e5354d40acb95f9ec66d5977d140ef",
        ),
        # Wikipedia and news, 1 million words.
        RemoteFile(
            f"{_RELEASES}/fasttext-wiki-news-subwords-300/fasttext-wiki-news-subwords-300.gz",
            1_005_007_116,
            "md5:de2bb3a20c46ce65c9c131e1ad9a77af",
        ),
    )
}

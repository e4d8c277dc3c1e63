"""What goes wrong with a download; each message names the culprit and the remedy."""

from __future__ import annotations


class DownloadError(OSError):
    """A download that a user must do something about."""


class WrongContent(DownloadError):
    """A file that is here but is not the one that was published: another size or checksum."""


class BadArchive(DownloadError):
    """An archive that is damaged, cannot be read here, or would do harm when unpacked."""

"""The one error that a user of the exporter sees."""


class ExportError(Exception):
    """The model or its data cannot become a package; the message names what and why, with the values."""

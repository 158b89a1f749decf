"""The one error of the harness: a component, or what it needs, is not there or not as it should be."""


class HarnessError(Exception):
    """Says what was wanted, what happened instead, and what to do; with the end of the log where there is one."""


class MissingNeedError(HarnessError):
    """This machine lacks something that a tier needs; the text says what to install."""

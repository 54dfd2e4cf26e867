"""Errors a user can act on: what is wrong, where, and what to do."""

from __future__ import annotations


class NormctError(Exception):
    """Base of every error that is the user's to mend; printed without a traceback."""


class ConfigError(NormctError):
    """A fault in the configuration or the participants table; lists every fault found."""

    def __init__(self, title: str, faults: list[str]) -> None:
        self.faults = faults
        super().__init__(f"{title}\n" + "\n".join(f"  - {fault}" for fault in faults))


class DataFault(NormctError):
    """A fault in one subject's data.

    The message never carries a file's path or a header value: those may hold a patient's name.

    Parameters
    ----------
    subject : str
        Participant ID.
    what : str
        Which file of the subject, in the words of the table ("ct", "lesion_mask").
    fault : str
        What is wrong.
    remedy : str
        What the user can do about it.
    """

    def __init__(self, subject: str, what: str, fault: str, remedy: str) -> None:
        self.subject, self.what, self.fault, self.remedy = subject, what, fault, remedy
        super().__init__(f"{subject}: {what}: {fault}. {remedy}")

    @property
    def reason(self) -> str:
        """The sentence that goes into ``quality.json`` and the hand-off."""
        return f"{self.what}: {self.fault}. {self.remedy}"

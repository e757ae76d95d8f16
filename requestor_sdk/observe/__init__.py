"""What a run looks like from outside: journals, folds of events, the table, the lines, the bill.

Everything here reads events and changes nothing. Only the module ``table`` imports rich, and only
the command line uses it; as a library the SDK is silent.
"""

from requestor_sdk.observe.journal import JsonlJournal, MemoryJournal, journal_at

__all__ = ["JsonlJournal", "MemoryJournal", "journal_at"]

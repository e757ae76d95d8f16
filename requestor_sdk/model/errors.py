"""The one error tree: every failure the SDK reports is one of these.

    RequestorError
    ├── UsageError                 RSK-1xx  what the caller handed over cannot work
    │   ├── HandlerError           RSK-101  a handler is no async generator, or yields no script
    │   ├── PayloadError           RSK-102  a payload that cannot be expressed as a demand
    │   ├── AmountError            RSK-103  a budget, price or count that makes no sense
    │   ├── DeadlineError          RSK-104  an expiration that is naive or in the past
    │   ├── UnknownNetwork         RSK-105  no network of that name
    │   ├── UploadUnreadable       RSK-106  a file to upload cannot be read
    │   ├── ImageNotFound          RSK-107  no image with that hash or tag
    │   ├── ImageInvalid           RSK-108  a folder or file that is no usable image
    │   ├── ScriptNotSent          RSK-109  a command awaited whose script was not yielded
    │   ├── NotAvailable           RSK-110  an operation in a state that does not allow it
    │   ├── WrongEventLoop         RSK-111  not asyncio, or used from another loop
    │   ├── NotSupported           RSK-112  the network or platform cannot do this
    │   ├── JournalUnwritable      RSK-113  a journal that cannot be written
    │   ├── JournalDamaged         RSK-114  a journal of which not all can be read
    │   ├── RunNotFound            RSK-115  no run of that name was written down
    │   ├── RunLocked              RSK-116  a run that is alive, here or in another process
    │   ├── ManifestInvalid        RSK-117  a manifest that a provider would refuse
    │   ├── ExposeError            RSK-118  a function that cannot be exposed as a handler
    │   ├── HandlerExists          RSK-119  a handler of that name, or an init, is there already
    │   └── StoreUnusable          RSK-120  a store of calls that cannot be used
    ├── MarketError                RSK-2xx  no agreement could be had
    │   ├── NoMatchingOffer        RSK-201  the constraints rule out every offer
    │   ├── BudgetTooSmall         RSK-202  the budget does not carry one instance to its expiry
    │   ├── AgreementRefused       RSK-203  the provider rejected, or did not answer in time
    │   └── SignatureInvalid       RSK-204  a signature that is not the claimed identity's
    ├── ActivityError              RSK-3xx  something went wrong on a provider
    │   ├── CommandFailed          RSK-301  a command ended with an error
    │   ├── CommandSkipped         RSK-302  an earlier command of the batch failed
    │   ├── BatchTimeout           RSK-303  a script's own time-out passed
    │   ├── ProviderLost           RSK-304  the activity or agreement ended under the instance
    │   ├── ActivityRefused        RSK-305  the provider would not create the activity
    │   └── TransferRefused        RSK-306  a transfer that would leave the activity's layer
    ├── InstanceError              RSK-4xx  the life of an instance
    │   ├── StartTimeout           RSK-401  start() took longer than start_timeout
    │   ├── ShutdownTimeout        RSK-402  shutdown() took longer than shutdown_timeout
    │   ├── HandlerStuck           RSK-403  a handler that could not be closed was abandoned
    │   ├── RestartsExhausted      RSK-404  the restart policy's limits are spent
    │   ├── MailboxFull            RSK-405  a message queue is full
    │   ├── TaskFailed             RSK-406  a task was tried as often as its job allows
    │   ├── ResultRejected         RSK-407  a task's result was rejected
    │   ├── TaskTimeout            RSK-408  an attempt at a task took longer than task_timeout
    │   ├── JobTimeout             RSK-409  a job took longer than its timeout
    │   └── WorkersExhausted       RSK-410  workers failed again and again before their first task
    ├── PaymentError               RSK-5xx  notes, invoices, allocations
    │   └── NoteRejected           RSK-501  a debit note or invoice that is not right
    ├── SandboxError               RSK-6xx  running a payload here
    │   ├── SandboxUnavailable     RSK-601  no sandbox can be had on this machine
    │   └── SandboxDied            RSK-602  the sandbox ended under its commands
    ├── EngineError                RSK-7xx  the SDK itself
    │   ├── EngineFailed           RSK-701  a fatal error inside the engine: a defect
    │   └── LeaveTimeout           RSK-702  leaving took longer than leave_timeout
    ├── CallError                  RSK-9xx  a call of a handler did not succeed
    │   ├── CallFailed             RSK-901  the handler raised, or its process died
    │   ├── CallTimedOut           RSK-902  it took longer than the handler's time-out
    │   ├── CallCancelled          RSK-903  it was cancelled
    │   ├── CallRejected           RSK-904  it was not begun; another try can succeed
    │   ├── CallRefused            RSK-905  the input, the id or the handler's name does not fit
    │   ├── CallUnreachable        RSK-906  nothing answers there; the call was not sent
    │   └── CallInterrupted        RSK-907  the connection broke; what became of it is not known
    ├── JobError                   RSK-950  a compute-to-data job, or a worker's run
    │   ├── JobRefused             RSK-951  the provider does not take it as it is
    │   ├── JobNotFound            RSK-952  no such job of this consumer, or no such result
    │   ├── JobFailed              RSK-953  it is over, and did not succeed
    │   ├── NoFreeEnvironment      RSK-954  the provider has no environment that costs nothing
    │   ├── AssetNotFound          RSK-955  no such asset, or no such service of it
    │   ├── AssetNotConsumable     RSK-956  an asset that this consumer may not use
    │   ├── LeaseLost              RSK-957  the run is another worker's, or over
    │   ├── WorkerRefused          RSK-958  the server does not know the worker's token
    │   └── StoreFailed            RSK-959  the store of jobs cannot be opened, read or written
    └── NetworkError               RSK-8xx  a network's daemon failed at a call
        ├── NetworkUnreachable     RSK-801  nothing listens where the daemon should be
        ├── NetworkTimeout         RSK-802  the daemon did not answer in time
        ├── NetworkInterrupted     RSK-803  the connection broke after the call may have got through
        ├── WrongAppKey            RSK-804  the daemon does not know who calls
        ├── DaemonTooOld           RSK-805  a daemon of a version that this package cannot use
        ├── BadAnswer              RSK-806  the daemon answered what is no answer, e.g. no JSON
        └── DevnetFailed           RSK-810  a network on this machine did not start, or broke

An error says what happened (the message), to which ids (``ids``), the last events of those ids
(``story``) and the next thing to try (``hint``). Nothing here may ever hold a secret.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class RequestorError(Exception):
    """The root of all errors that this package raises.

    Attributes:
        message: What happened, in one sentence.
        code: ``RSK-NNN``, stable, an anchor of the documentation's page on errors.
        ids: What it happened to, e.g. ``{"instance": "i-1", "agreement": "a1b2"}``.
        story: The last events of those ids, oldest first, one line each.
        hint: The next command or change to try; empty where there is none.
    """

    code: ClassVar[str] = "RSK-000"

    def __init__(
        self,
        message: str,
        *,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.message = message
        self.ids: dict[str, str] = dict(ids or {})
        self.story: tuple[str, ...] = tuple(story)
        self.hint = hint

    def __str__(self) -> str:
        """Tell all of it: code, message, ids, story and what to try next."""
        lines = [f"[{self.code}] {self.message}"]
        if self.ids:
            lines.append("  " + ", ".join(f"{name} {value}" for name, value in self.ids.items()))
        if self.story:
            lines.append("  what came before:")
            lines.extend(f"    {line}" for line in self.story)
        if self.hint:
            lines.append(f"  try: {self.hint}")
        return "\n".join(lines)


class UsageError(RequestorError):
    """What the caller handed over cannot work; nothing was started."""

    code = "RSK-100"


class HandlerError(UsageError, TypeError):
    """A handler is no async generator, or yielded something that is no script."""

    code = "RSK-101"


class PayloadError(UsageError, ValueError):
    """A payload that cannot be expressed as properties and constraints of a demand."""

    code = "RSK-102"


class AmountError(UsageError, ValueError):
    """A budget, price, size or count that is negative, zero, not finite or not a number."""

    code = "RSK-103"


class DeadlineError(UsageError, ValueError):
    """An expiration that has no time zone or lies in the past."""

    code = "RSK-104"


class UnknownNetwork(UsageError, ValueError):
    """No network of that name is built in or installed."""

    code = "RSK-105"


class UploadUnreadable(UsageError, OSError):
    """A file that is to be uploaded does not exist or cannot be read."""

    code = "RSK-106"


class ImageNotFound(UsageError, LookupError):
    """No image with that hash or tag is known."""

    code = "RSK-107"


class ImageInvalid(UsageError, ValueError):
    """A folder or file that is no usable image."""

    code = "RSK-108"


class ScriptNotSent(UsageError, RuntimeError):
    """A command was awaited before its script was yielded: it would wait for ever."""

    code = "RSK-109"


class NotAvailable(UsageError, RuntimeError):
    """The instance, cluster or engine is not in a state that allows this."""

    code = "RSK-110"


class WrongEventLoop(UsageError, RuntimeError):
    """Used under another framework than asyncio, or from another loop than it was started on."""

    code = "RSK-111"


class NotSupported(UsageError, RuntimeError):
    """This network or platform cannot do what was asked."""

    code = "RSK-112"


class JournalUnwritable(UsageError, OSError):
    """A journal cannot be written: no room, no right, or no such folder."""

    code = "RSK-113"


class JournalDamaged(UsageError, ValueError):
    """Not all of a journal can be read. Reading gave what can be; the file was not touched.

    Attributes:
        saved: How many events were read in spite of it.
    """

    code = "RSK-114"

    def __init__(
        self,
        message: str,
        *,
        saved: int = 0,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.saved = saved


class RunNotFound(UsageError, LookupError):
    """No run of that name was written down, or more than one begins with it."""

    code = "RSK-115"


class RunLocked(UsageError, RuntimeError):
    """The run is alive, here or in another process: only that one may write its journal."""

    code = "RSK-116"


class ManifestInvalid(UsageError, ValueError):
    """A manifest that cannot be read, is not valid now, or whose signature does not hold.

    The message is the reason that a provider would give.
    """

    code = "RSK-117"


class ExposeError(UsageError, TypeError):
    """A function that cannot be exposed as a handler; the message names what is wrong."""

    code = "RSK-118"


class HandlerExists(UsageError, ValueError):
    """A handler of that name is exposed already, or there is an init function already."""

    code = "RSK-119"


class StoreUnusable(UsageError, OSError):
    """A store of calls that cannot be opened or written, or belongs to a living program."""

    code = "RSK-120"


class MarketError(RequestorError):
    """No agreement could be had."""

    code = "RSK-200"


class NoMatchingOffer(MarketError):
    """The constraints of the payload rule out every offer that the market has."""

    code = "RSK-201"


class BudgetTooSmall(MarketError):
    """The budget does not carry a single instance to its worst-case cost at expiry."""

    code = "RSK-202"


class AgreementRefused(MarketError):
    """The provider rejected the agreement, or did not answer in time."""

    code = "RSK-203"


class SignatureInvalid(MarketError):
    """A signature does not recover to the identity that is said to have made it."""

    code = "RSK-204"


class ActivityError(RequestorError):
    """Something went wrong on a provider."""

    code = "RSK-300"


class CommandFailed(ActivityError):
    """A command of a batch ended with an error.

    Attributes:
        stdout: What the command wrote to its standard output, as far as it was captured.
        stderr: The same for standard error.
        return_code: The exit status; negative for a signal; ``None`` where it never ran.
        command: The command as text, e.g. ``run /bin/false``.
    """

    code = "RSK-301"

    def __init__(
        self,
        message: str,
        *,
        command: str = "",
        stdout: str | None = None,
        stderr: str | None = None,
        return_code: int | None = None,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.command = command
        self.stdout = stdout
        self.stderr = stderr
        self.return_code = return_code

    def __str__(self) -> str:
        """Tell the failure with the last lines that the command wrote to standard error."""
        text = super().__str__()
        tail = (self.stderr or "").rstrip().splitlines()[-10:]
        return text + "".join(f"\n  stderr: {line}" for line in tail)


class CommandSkipped(ActivityError):
    """The command never ran: an earlier one of its batch failed."""

    code = "RSK-302"


class BatchTimeout(ActivityError, TimeoutError):
    """The script's own time-out passed before its last command ended."""

    code = "RSK-303"


class ProviderLost(ActivityError):
    """The activity or the agreement ended under the instance, or the provider fell silent."""

    code = "RSK-304"


class ActivityRefused(ActivityError):
    """The provider would not, or could not, create the activity."""

    code = "RSK-305"


class TransferRefused(ActivityError):
    """A transfer whose path would leave the activity's own layer, or is no regular file."""

    code = "RSK-306"


class InstanceError(RequestorError):
    """Something in the life of an instance went wrong."""

    code = "RSK-400"


class StartTimeout(InstanceError, TimeoutError):
    """``start()`` took longer than ``start_timeout``."""

    code = "RSK-401"


class ShutdownTimeout(InstanceError, TimeoutError):
    """``shutdown()`` took longer than ``shutdown_timeout``."""

    code = "RSK-402"


class HandlerStuck(InstanceError):
    """A handler swallowed its cancellation twice and was abandoned."""

    code = "RSK-403"


class RestartsExhausted(InstanceError):
    """The limits of the restart policy are spent; the story tells of each attempt."""

    code = "RSK-404"


class MailboxFull(InstanceError):
    """A message queue of an instance holds as many messages as it may."""

    code = "RSK-405"


class TaskFailed(InstanceError):
    """A task was tried as often as its job allows; the last failure is chained.

    The story has one line an attempt: where it ran, and why it failed.
    """

    code = "RSK-406"


class ResultRejected(InstanceError):
    """A worker rejected the result of a task; the message holds the reason that it gave."""

    code = "RSK-407"


class TaskTimeout(InstanceError, TimeoutError):
    """An attempt at a task took longer than ``task_timeout``: its worker is ended."""

    code = "RSK-408"


class JobTimeout(InstanceError, TimeoutError):
    """A job took longer than its ``timeout``; its workers were stopped in good order.

    Attributes:
        done: How many tasks ended before.
        unfinished: The ids of the tasks that had begun or waited.
    """

    code = "RSK-409"

    def __init__(
        self,
        message: str,
        *,
        done: int = 0,
        unfinished: Iterable[str] = (),
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.done = done
        self.unfinished: tuple[str, ...] = tuple(unfinished)


class WorkersExhausted(InstanceError):
    """The workers of a job failed again and again before they came to ask for a task."""

    code = "RSK-410"


class PaymentError(RequestorError):
    """Something went wrong with an allocation, a debit note or an invoice."""

    code = "RSK-500"


class NoteRejected(PaymentError):
    """A debit note or an invoice is not right; the message is the reason that was sent back."""

    code = "RSK-501"


class SandboxError(RequestorError):
    """Running a payload on this machine went wrong."""

    code = "RSK-600"


class SandboxUnavailable(SandboxError):
    """No sandbox can be had on this machine; the hint names the fix."""

    code = "RSK-601"


class SandboxDied(SandboxError):
    """The sandbox ended under the commands that ran in it; the message says of what."""

    code = "RSK-602"


class EngineError(RequestorError):
    """The SDK itself failed."""

    code = "RSK-700"


class EngineFailed(EngineError):
    """A fatal error inside the engine; the cause is chained.

    A defect of the SDK, or a journal that could not be written.
    """

    code = "RSK-701"


class LeaveTimeout(EngineError, TimeoutError):
    """Leaving took longer than ``leave_timeout``; what is left open is named."""

    code = "RSK-702"


class JobError(RequestorError):
    """A compute-to-data job, or a worker's run, did not go as asked."""

    code = "RSK-950"


class JobRefused(JobError):
    """The provider does not take a job as it is; nothing was started.

    Attributes:
        reasons: What the provider names, e.g. ``{"algorithm": "not_trusted_algo"}``.
    """

    code = "RSK-951"

    def __init__(
        self,
        message: str,
        *,
        reasons: Mapping[str, str] | None = None,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.reasons: dict[str, str] = dict(reasons or {})


class JobNotFound(JobError, LookupError):
    """The provider knows no such job of this consumer, or no such result of it."""

    code = "RSK-952"


class JobFailed(JobError):
    """A job is over and did not succeed; the message says what became of it."""

    code = "RSK-953"


class NoFreeEnvironment(JobError, LookupError):
    """The provider has no environment that costs nothing."""

    code = "RSK-954"


class AssetNotFound(JobError, LookupError):
    """There is no such asset, or it has no such service."""

    code = "RSK-955"


class AssetNotConsumable(JobError):
    """An asset that this consumer may not use.

    Attributes:
        consumable_code: Ocean's number: 1 disabled, 2 not reachable, 3 not in the list of those who
            are allowed, 4 in the list of those who are denied, 5 unlisted.
    """

    code = "RSK-956"

    def __init__(
        self,
        message: str,
        *,
        consumable_code: int = 1,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.consumable_code = consumable_code


class LeaseLost(JobError):
    """The run is another worker's by now, or over: what was said of it changes nothing."""

    code = "RSK-957"


class WorkerRefused(JobError, PermissionError):
    """The server does not know the worker's token, or it is another worker's."""

    code = "RSK-958"


class StoreFailed(JobError):
    """The store of jobs cannot be opened, read or written."""

    code = "RSK-959"


class NetworkError(RequestorError):
    """The daemon through which a network is reached failed at a call.

    Whether the call had its effect is unknown, unless it is a ``NetworkUnreachable``.

    Attributes:
        status: The HTTP status that it answered with; ``None`` where it did not answer.
    """

    code = "RSK-800"

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same call may do better a moment later: the daemon did not refuse it."""
        return self.status is None or self.status in (408, 429) or self.status >= 500


class NetworkUnreachable(NetworkError, ConnectionError):
    """Nothing listens where the network's daemon should be: it is not started, or was stopped.

    The call was not sent, and had no effect: to make it again does nothing twice.
    """

    code = "RSK-801"


class NetworkTimeout(NetworkError, TimeoutError):
    """The network's daemon did not answer in time; whether the call had its effect is unknown."""

    code = "RSK-802"


class NetworkInterrupted(NetworkError, ConnectionError):
    """The connection broke after the call may have got through.

    Whether the call had its effect is unknown.
    """

    code = "RSK-803"


class WrongAppKey(NetworkError):
    """There is no application key, or the daemon does not know the one that was given.

    The key itself is in no text.
    """

    code = "RSK-804"

    @property
    def may_pass(self) -> bool:
        """A key does not become right by waiting."""
        return False


class DaemonTooOld(NetworkError):
    """The daemon is of a version that this package cannot use; the hint names the fix."""

    code = "RSK-805"

    @property
    def may_pass(self) -> bool:
        """A version does not change by waiting."""
        return False


class BadAnswer(NetworkError):
    """The daemon answered what is no answer to the call, e.g. no JSON, or a field is missing.

    Whether the call had its effect is unknown.
    """

    code = "RSK-806"


class DevnetFailed(NetworkError):
    """A network on this machine did not start, or a part of it failed.

    ``story`` has the last lines of that part's log.
    """

    code = "RSK-810"

    @property
    def may_pass(self) -> bool:
        """What failed to start fails again."""
        return False


class CallError(RequestorError):
    """A call of a handler did not succeed.

    Attributes:
        error_type: The class name of what the handler raised, or a word of ours, e.g. ``Timeout``;
            empty where nothing is known.
    """

    code = "RSK-900"

    def __init__(
        self,
        message: str,
        *,
        error_type: str = "",
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, ids=ids, story=story, hint=hint)
        self.error_type = error_type


class CallFailed(CallError):
    """The handler raised, returned what does not fit, or its process died."""

    code = "RSK-901"


class CallTimedOut(CallError, TimeoutError):
    """The call took longer than the handler's time-out, and was stopped."""

    code = "RSK-902"


class CallCancelled(CallError):
    """The call was cancelled, by a request or by the end of the program."""

    code = "RSK-903"


class CallRejected(CallError):
    """The call was not begun: too many wait, or the program starts or ends.

    Attributes:
        retry_after: Seconds after which another try makes sense.
    """

    code = "RSK-904"

    def __init__(
        self,
        message: str,
        *,
        retry_after: float = 1.0,
        error_type: str = "",
        ids: Mapping[str, str] | None = None,
        story: Iterable[str] = (),
        hint: str = "",
    ) -> None:
        super().__init__(message, error_type=error_type, ids=ids, story=story, hint=hint)
        self.retry_after = retry_after


class CallRefused(CallError, ValueError):
    """The input, the id or the handler's name does not fit; the same call never succeeds."""

    code = "RSK-905"


class CallUnreachable(CallError, ConnectionError):
    """Nothing answers where the handlers should be; the call was not sent."""

    code = "RSK-906"


class CallInterrupted(CallError, ConnectionError):
    """The connection broke after the call may have got through; its outcome is not known here."""

    code = "RSK-907"


def all_errors() -> tuple[type[RequestorError], ...]:
    """Return every class of the tree that has a code of its own, in the order of the codes."""
    found: dict[str, type[RequestorError]] = {}
    queue: list[type[RequestorError]] = [RequestorError]
    while queue:
        cls = queue.pop()
        # A part of the package may tell a family's error apart for itself, under the family's code.
        if "code" in vars(cls):
            found[cls.code] = cls
        queue.extend(cls.__subclasses__())
    return tuple(found[code] for code in sorted(found))

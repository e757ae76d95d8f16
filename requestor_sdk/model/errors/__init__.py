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

from requestor_sdk.model.errors._activity import (
    ActivityError,
    ActivityRefused,
    BatchTimeout,
    CommandFailed,
    CommandSkipped,
    ProviderLost,
    SandboxDied,
    SandboxError,
    SandboxUnavailable,
    TransferRefused,
)
from requestor_sdk.model.errors._base import RequestorError, all_errors
from requestor_sdk.model.errors._calls import (
    CallCancelled,
    CallError,
    CallFailed,
    CallInterrupted,
    CallRefused,
    CallRejected,
    CallTimedOut,
    CallUnreachable,
)
from requestor_sdk.model.errors._engine import (
    EngineError,
    EngineFailed,
    HandlerStuck,
    InstanceError,
    JobTimeout,
    LeaveTimeout,
    MailboxFull,
    RestartsExhausted,
    ResultRejected,
    ShutdownTimeout,
    StartTimeout,
    TaskFailed,
    TaskTimeout,
    WorkersExhausted,
)
from requestor_sdk.model.errors._jobs import (
    AssetNotConsumable,
    AssetNotFound,
    JobError,
    JobFailed,
    JobNotFound,
    JobRefused,
    LeaseLost,
    NoFreeEnvironment,
    StoreFailed,
    WorkerRefused,
)
from requestor_sdk.model.errors._market import (
    AgreementRefused,
    BudgetTooSmall,
    MarketError,
    NoMatchingOffer,
    NoteRejected,
    PaymentError,
    SignatureInvalid,
)
from requestor_sdk.model.errors._network import (
    BadAnswer,
    DaemonTooOld,
    DevnetFailed,
    NetworkError,
    NetworkInterrupted,
    NetworkTimeout,
    NetworkUnreachable,
    WrongAppKey,
)
from requestor_sdk.model.errors._usage import (
    AmountError,
    DeadlineError,
    ExposeError,
    HandlerError,
    HandlerExists,
    ImageInvalid,
    ImageNotFound,
    JournalDamaged,
    JournalUnwritable,
    ManifestInvalid,
    NotAvailable,
    NotSupported,
    PayloadError,
    RunLocked,
    RunNotFound,
    ScriptNotSent,
    StoreUnusable,
    UnknownNetwork,
    UploadUnreadable,
    UsageError,
    WrongEventLoop,
)

__all__ = [
    "ActivityError",
    "ActivityRefused",
    "AgreementRefused",
    "AmountError",
    "AssetNotConsumable",
    "AssetNotFound",
    "BadAnswer",
    "BatchTimeout",
    "BudgetTooSmall",
    "CallCancelled",
    "CallError",
    "CallFailed",
    "CallInterrupted",
    "CallRefused",
    "CallRejected",
    "CallTimedOut",
    "CallUnreachable",
    "CommandFailed",
    "CommandSkipped",
    "DaemonTooOld",
    "DeadlineError",
    "DevnetFailed",
    "EngineError",
    "EngineFailed",
    "ExposeError",
    "HandlerError",
    "HandlerExists",
    "HandlerStuck",
    "ImageInvalid",
    "ImageNotFound",
    "InstanceError",
    "JobError",
    "JobFailed",
    "JobNotFound",
    "JobRefused",
    "JobTimeout",
    "JournalDamaged",
    "JournalUnwritable",
    "LeaseLost",
    "LeaveTimeout",
    "MailboxFull",
    "ManifestInvalid",
    "MarketError",
    "NetworkError",
    "NetworkInterrupted",
    "NetworkTimeout",
    "NetworkUnreachable",
    "NoFreeEnvironment",
    "NoMatchingOffer",
    "NotAvailable",
    "NotSupported",
    "NoteRejected",
    "PayloadError",
    "PaymentError",
    "ProviderLost",
    "RequestorError",
    "RestartsExhausted",
    "ResultRejected",
    "RunLocked",
    "RunNotFound",
    "SandboxDied",
    "SandboxError",
    "SandboxUnavailable",
    "ScriptNotSent",
    "ShutdownTimeout",
    "SignatureInvalid",
    "StartTimeout",
    "StoreFailed",
    "StoreUnusable",
    "TaskFailed",
    "TaskTimeout",
    "TransferRefused",
    "UnknownNetwork",
    "UploadUnreadable",
    "UsageError",
    "WorkerRefused",
    "WorkersExhausted",
    "WrongAppKey",
    "WrongEventLoop",
    "all_errors",
]


def _name(module: str) -> None:
    """Have tracebacks, logs and pickles name each error where users import it from."""
    for error in all_errors():
        error.__module__ = module


_name("requestor_sdk.errors")

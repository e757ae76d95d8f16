"""What usually causes each error, and what to do about it; Markdown, an entry a code."""

# ruff: noqa: E501 - running text
from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """Of one error."""

    causes: str
    fix: str


NOTES: dict[str, Note] = {
    "RSK-101": Note(
        "`start`, `run` or `shutdown` is a coroutine without a `yield`; or a handler yields the "
        "awaitable of a command instead of the script.",
        "Make the handler an async generator that yields scripts made by `self.ctx.new_script()`. "
        "A handler that has nothing to yield can be left out: the default does nothing.",
    ),
    "RSK-102": Note(
        "`get_payload()` returned nothing; a dataclass field of a `Payload` cannot be written as a "
        "property or constraint; a path inside the instance is relative; a script is yielded twice.",
        "Return `await vm.repo(...)` or a `Payload`, or hand over `payload=`. Make a new script for "
        "each yield.",
    ),
    "RSK-103": Note(
        "A budget of zero, a negative price, `num_instances=0`, fewer `instance_params` than "
        "instances, an infinite amount.",
        "Amounts are `Decimal`s, strings or floats above zero; counts are whole numbers from 1.",
    ),
    "RSK-104": Note(
        "`datetime.now()` without a time zone; an expiration so near that the shutdown would have "
        "to begin before the start.",
        "Give a `timedelta`, or an aware datetime such as "
        "`datetime.now(timezone.utc) + timedelta(minutes=15)`.",
    ),
    "RSK-105": Note(
        "A misspelt name, or the package that brings the network is not installed.",
        "The message lists the networks that are there; `local` always is.",
    ),
    "RSK-106": Note(
        "The path is wrong, is a folder, or this user may not read it.",
        "Nothing was sent: mend the path and make the script again.",
    ),
    "RSK-107": Note(
        "The image was never added to the store of this user, or `REQUESTOR_SDK_HOME` points to "
        "another one.",
        "`requestor-sdk image list` shows what there is; `requestor-sdk image build DIR --tag NAME` "
        "or `requestor-sdk image import FILE --tag NAME` adds it; `requestor-sdk image add` takes "
        "container images.",
    ),
    "RSK-108": Note(
        "An empty folder, an archive that cannot be read, a device file or a link that leaves the "
        "image.",
        "The message names the member; remove it, or build from a folder.",
    ),
    "RSK-109": Note(
        "`await script.run(...)` before `yield script`.",
        "Keep the awaitable, yield the script, then await it; or use `await self.ctx.run(...)`.",
    ),
    "RSK-110": Note(
        "A command sent to an instance that is pending or terminated; `resume` of an instance that "
        "is not suspended; a stopped cluster asked for more instances; `Compute` used before it "
        "was started.",
        "`await cluster.wait('running')` first; make a new cluster or a new `Compute` for a new run.",
    ),
    "RSK-111": Note(
        "A `Compute` that was entered in one event loop and used in another, e.g. by a second "
        "`asyncio.run`; or a program under trio.",
        "Enter and use it on the same asyncio loop.",
    ),
    "RSK-112": Note(
        "The network cannot do it at all, e.g. fetch an image by URL on `local`; or a journal was "
        "written by a newer version.",
        "The hint names another way.",
    ),
    "RSK-113": Note(
        "The disk is full, the folder cannot be written by this user, or what is named is no file.",
        "Name another file by `journal=`, or move the data folder by `REQUESTOR_SDK_HOME`.",
    ),
    "RSK-114": Note(
        "The file was cut off or overwritten, by a full disk, a copy that was broken off, another "
        "program.",
        "`requestor-sdk events RUN` prints what can be read and says what is missing. The file is "
        "never changed, so that other tools can still be tried on it.",
    ),
    "RSK-115": Note(
        "A misspelt id, a beginning that several runs share, a run that was removed, or "
        "`REQUESTOR_SDK_HOME` points to another data folder.",
        "`requestor-sdk runs --all` lists them.",
    ),
    "RSK-116": Note(
        "The program that began the run has not ended, perhaps on another terminal.",
        "Wait until it is over, or end it. Reading a run by `requestor-sdk status` or "
        "`requestor-sdk events` is possible all the time.",
    ),
    "RSK-117": Note(
        "The manifest was changed after it was signed; the signature is over the JSON instead of its "
        "base64; it or the certificate expired; the provider does not trust the signer.",
        "`requestor-sdk manifest check FILE` tells what a provider would say. Sign by "
        "`manifest.sign(key, certificate)` or `requestor-sdk manifest sign`.",
    ),
    "RSK-201": Note(
        "More memory, storage or threads than any provider offers; a capability or a custom "
        "property that nobody has; another `subnet_tag`.",
        "The message says which constraint rules out how many offers: relax that one, or give "
        "`Compute(providers=...)` that meet it.",
    ),
    "RSK-202": Note(
        "The worst case (start fee, plus every price times the whole time until the expiration) of "
        "the cheapest matching offer is above the budget.",
        "Raise `budget=`, bring `expiration=` nearer, or hold for less at a time by `hold_for=`.",
    ),
    "RSK-203": Note(
        "The provider has no capacity left, its offer was taken meanwhile, or it did not answer "
        "within `approval_timeout`.",
        "Nothing: the engine goes on to the next offer by itself. In numbers, look at "
        "`AgreementRejected` in the journal.",
    ),
    "RSK-204": Note(
        "Somebody between the two sides, or a provider that signs with another key than it names.",
        "The agreement is not used. Avoid that provider by a strategy.",
    ),
    "RSK-301": Note(
        "The program ended with a status that is not zero, was killed by a signal or by a limit of "
        "the sandbox, or does not exist in the image.",
        "`error.return_code`, `error.stderr` and `error.message` tell which. Caught at the `yield`, "
        "the service goes on.",
    ),
    "RSK-302": Note(
        "A batch ends with its first failure; this command came after it.",
        "Await the earlier command for the reason.",
    ),
    "RSK-303": Note(
        "The script's `timeout=` was shorter than its commands. The batch itself goes on at the "
        "provider.",
        "A longer time-out, or smaller scripts.",
    ),
    "RSK-304": Note(
        "The provider ended the agreement, its activity died (out of memory, killed, machine gone), "
        "or it was silent for longer than `unresponsive_deadline`.",
        "A `RestartPolicy(when='on-failure')` brings the instance to another provider. Catching the "
        "error in a handler does not bring this one back.",
    ),
    "RSK-305": Note(
        "The provider would not create the activity after it had signed.",
        "Nothing: the attempt counts as not started, and the restart policy decides.",
    ),
    "RSK-306": Note(
        "A path with `..`, one that passes through an absolute link, or a target that is no regular "
        "file.",
        "Use an absolute path of a regular file inside the instance.",
    ),
    "RSK-401": Note(
        "A large deploy, or a command of `start()` that does not end.",
        "`Settings(start_timeout=...)`, or find the command in the story of the error.",
    ),
    "RSK-402": Note(
        "A command of `shutdown()` that does not end.",
        "Give its script a `timeout=`, or raise `Settings(shutdown_timeout=...)`. The provider is "
        "released all the same.",
    ),
    "RSK-403": Note(
        "A handler catches `CancelledError` and goes on, or blocks the event loop.",
        "Let the cancellation pass; run blocking work by `asyncio.to_thread`.",
    ),
    "RSK-404": Note(
        "Each attempt that `max_attempts` allows has failed.",
        "The story and the chained error tell of the attempts. If they are no bug, raise "
        "`RestartPolicy(max_attempts=...)` or set a `window`.",
    ),
    "RSK-405": Note(
        "`send_message_nowait` in a loop, and no handler that listens.",
        "Await `send_message`, which waits for room, or raise `Settings(mailbox_size=...)`.",
    ),
    "RSK-406": Note(
        "A worker that always fails on this task, whatever the provider; or a `task_timeout` that is "
        "too short for it.",
        "The story has each attempt with its failure, `task.attempts` the errors themselves. Other "
        "tasks are not held up by it.",
    ),
    "RSK-407": Note(
        "The worker called `task.reject_result(reason)`.",
        "Without `retry=False` the task is tried again, on another provider where there is one, as "
        "often as `max_retries=` says.",
    ),
    "RSK-408": Note(
        "A command that hangs, or a `task_timeout=` that is too short. A worker that settled its task "
        "and does not ask for the next, or that never asks for its first, is ended likewise.",
        "The task is tried again on another worker. Give commands that may hang a time-out of their "
        "own: `ctx.new_script(timeout=...)`.",
    ),
    "RSK-409": Note(
        "There is too much to do for the time and the workers; a task that hangs without a "
        "`task_timeout=`; no offers, or no room in the budget for a worker.",
        "What was done has been handed out; `error.unfinished` names the rest. A longer `timeout=`, "
        "more `max_workers=`, or a `task_timeout=`.",
    ),
    "RSK-410": Note(
        "What comes before the first task always fails: the deploy of the image, an upload at the "
        "beginning of the worker; or the worker ends without iterating its tasks.",
        "The chained error is the last failure. Nothing more is rented for a job that cannot begin.",
    ),
    "RSK-501": Note(
        "A provider asked for more than usage times price, more than the time can have cost, or "
        "less than before.",
        "Nothing is paid for that note; the journal has it as `DebitNoteRejected` or "
        "`InvoiceRejected` with the reason.",
    ),
    "RSK-601": Note(
        "No bubblewrap, no user namespaces (some hardened kernels and containers), or not Linux.",
        "`requestor-sdk doctor` names the fix for this machine. For your own scripts only: "
        "`Compute(allow_unsandboxed=True)` or `--unsandboxed`.",
    ),
    "RSK-602": Note(
        "The payload ran into its memory limit, or the sandbox's first process was killed.",
        "The message says of what. Ask for more by `min_mem_gib=`, or use less.",
    ),
    "RSK-701": Note(
        "A defect of this package, or a journal that could not be written. Everything that ran was "
        "ended.",
        "Name another journal where the message speaks of it; else report it with the chained "
        "traceback and the journal.",
    ),
    "RSK-702": Note(
        "A handler, a provider or the network hung while the run was being ended.",
        "The ids name what was left open; it can cost until its expiry, and no more than was held. "
        "`requestor-sdk recover RUN` ends it, once the process has ended.",
    ),
    "RSK-950": Note(
        "A file of a dataset or an algorithm could not be had, or who called a provider of jobs is "
        "not who it says.",
        "The message names what; this is the family of all errors of compute-to-data jobs.",
    ),
    "RSK-951": Note(
        "An environment, a dataset or an algorithm that the provider does not have; an algorithm "
        "that the dataset's publisher does not trust; code sent along where only assets may run; an "
        "order that is missing or used up; a signature of another wallet.",
        "`error.reasons` has the provider's own words for each part of the job. Nothing was started: "
        "mend the request and submit it again. `requestor-sdk c2d environments` lists environments.",
    ),
    "RSK-952": Note(
        "The job was submitted by another wallet or to another provider, was deleted, or its "
        "results are not kept any more.",
        "`requestor-sdk job list` shows the wallet's jobs at the provider of `--url`.",
    ),
    "RSK-953": Note(
        "The algorithm ended with an error, was stopped, or ran longer than it may.",
        "`requestor-sdk job logs ID` shows what it wrote, `job.status` has its exit code. "
        "`job.wait(check=False)` returns the status instead.",
    ),
    "RSK-954": Note(
        "Every environment of the provider has a price, and none was named.",
        "Name one by `environment=`; it takes an order. `requestor-sdk c2d environments` shows "
        "prices.",
    ),
    "RSK-955": Note(
        "A misspelt id; an asset of another provider or metadata store; a service of another asset.",
        "The message lists the services that there are.",
    ),
    "RSK-956": Note(
        "The publisher disabled the asset, lists who may use it, or excludes this wallet; or its "
        "files cannot be reached.",
        "`error.consumable_code` says which. Ask the publisher, or use the wallet that is allowed.",
    ),
    "RSK-957": Note(
        "A worker was out of touch for longer than its lease, so that its run was given to another; "
        "or the run was cancelled.",
        "The worker stops it by itself and says nothing more of it. Where it happens often, look "
        "at the network between worker and server.",
    ),
    "RSK-958": Note(
        "The worker has no token, one of another server or worker, or one that was replaced.",
        "`requestor-sdk c2d token WORKER` on the server's host makes one.",
    ),
    "RSK-959": Note(
        "The data folder cannot be written, the disk is full, the database does not answer, or the "
        "store was made by a newer version.",
        "The message says which. Mend it and start the server again: what was accepted is in the "
        "store.",
    ),
    "RSK-801": Note(
        "The daemon of the network is not running, or was restarted under the run.",
        "Start it. A run that is alive waits for it and goes on where it was.",
    ),
    "RSK-802": Note(
        "The daemon is overloaded, or a provider behind it is silent.",
        "Calls that read are tried again by themselves. Of one that acts it is not known whether "
        "it had its effect; the engine treats it as failed and withdraws what may have come of it.",
    ),
    "RSK-803": Note(
        "The daemon of the network was stopped, or died, in the middle of a call.",
        "As with a time-out it is not known whether the call had its effect. A batch is not sent "
        "again, for it may have run: raised at the yield, it is yours to say whether it may run "
        "twice.",
    ),
    "RSK-804": Note(
        "`YAGNA_APPKEY` is not set, or is a key of another daemon or of another data folder.",
        "`yagna app-key list` shows the keys of the daemon that runs; set `YAGNA_APPKEY` to one of "
        'them. For a network on this machine: `eval "$(requestor-sdk devnet env)"`.',
    ),
    "RSK-805": Note(
        "The daemon is older than 0.16, or another program answers at its address.",
        "`pip install -U golem-node`, then stop the daemon and start it again.",
    ),
    "RSK-806": Note(
        "Another program answers at `YAGNA_API_URL`, e.g. a proxy or a captive portal; or the daemon "
        "is of a version that nobody has tried yet. For an image: the same of `GOLEM_REGISTRY_URL`.",
        "The message shows how the answer begins. Point the variable at the daemon.",
    ),
    "RSK-810": Note(
        "The daemon or a provider of a devnet ended at its start; npm could not fetch the chain's program; "
        "no room on the disk.",
        "Read the last lines of the log, which are in the error; the whole log is beside them, where "
        "the error says. `requestor-sdk doctor` shows what this machine lacks.",
    ),
    "RSK-118": Note(
        "A parameter or the return has no type; the input or the output is no pydantic model; there "
        "are none or several parameters; a sync handler was asked to work on the loop.",
        "`def predict(data: Input) -> Output`, both subclasses of `pydantic.BaseModel`.",
    ),
    "RSK-119": Note(
        "Two functions of the same name, e.g. of two modules, or two functions with `@init()`.",
        "`expose(name=...)` names one of them otherwise; put what two inits do into one.",
    ),
    "RSK-120": Note(
        "Another program has the same store open, its folder is not there, the disk is full, or the "
        "file is something else.",
        "Give each program a store of its own; `start(store=...)`.",
    ),
    "RSK-901": Note(
        "The handler raised: `error_type` is the class of what. `WrongOutput` and `ValidationError`: it "
        "returned what it does not declare. `WorkerDied`: its process ended. `Interrupted`: the program "
        "ended in the middle of it.",
        "The place in the code is in the log of the program, by the id of the call.",
    ),
    "RSK-902": Note(
        "The handler worked longer than `expose(timeout=...)`, and was stopped.",
        "Raise the time-out, or hand over less at a time.",
    ),
    "RSK-903": Note(
        "Somebody sent `DELETE /tasks/{id}`, or the program ended and its grace was over.",
        "Call again; with a new id, since the same one keeps its end.",
    ),
    "RSK-904": Note(
        "As many calls wait as `expose(queue=...)` allows; init is not done; the program drains; its "
        "store cannot be written.",
        "Try again after `retry_after` seconds; `GET /readyz` has the reason.",
    ),
    "RSK-905": Note(
        "The input does not fit the model that is served; the id has a slash or a control character, or "
        "belongs to another call; there is no handler of that name.",
        "The message names the field. Is the same version of the handler served there?",
    ),
    "RSK-906": Note(
        "The program is not started, its init failed, or the address is wrong. The call was not sent.",
        "`GET /readyz`; the log of the program.",
    ),
    "RSK-907": Note(
        "The program, its computer or the network between ended while the answer was awaited.",
        "Call again with the same `id=`: the same program does it once. `HandlerCluster` does so on "
        "another instance where the handler is `idempotent`.",
    ),
}

"""How a fine-tune is ordered: files sent, price agreed, slot taken, job started; each of them once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from api_worker.catalogue import Wanted, catalogue, nearest_names
from api_worker.provider import Order
from api_worker.providers import api_of, is_free
from api_worker.quotes import Need, ending, machine_of, over, quote, said
from queue_app.errors import Invalid, NotFound, Permanent, TuneyardError, Unauthorized, Unsettled
from queue_app.lifecycle import Cause
from queue_app.store.money import Caps, Quoted, sum_of
from tasks.hosting.limits import Limit, Sayings, limit_of
from tasks.hosting.looking import lag_of
from tasks.hosting.run_time import run_time
from tasks.hosting.training_file import AskedFile, origin, target_of, write_training_file

if TYPE_CHECKING:
    from api_worker.catalogue import Catalogue, What
    from api_worker.provider import Provider
    from queue_app.at_account import AtAccount
    from queue_app.job_type import Attempt
    from settings import ProviderSettings

SENT = {"dataset": "upload", "holdout": "upload-holdout"}  # field of the spec → step
SEND_AGAIN_SECONDS = 1.0
SPEC_FIELDS = ("method", "tuned", "epochs", "suffix", "seed", "learning_rate", "batch_size", "lora_r")


@dataclass(frozen=True)
class Desk:
    """One job's dealings with one account, up to the start of its remote job."""

    attempt: Attempt
    name: str
    account: ProviderSettings
    provider: Provider

    @property
    def place(self) -> AtAccount:
        return self.attempt.at(self.name)

    @property
    def api(self) -> str:
        return api_of(self.name, self.account)

    @property
    def rows(self) -> Catalogue:
        """What is known of providers."""
        return catalogue(self.attempt.settings.catalogue)

    def order(self, spec: Any, datasets: dict[str, str | None]) -> Order | None:
        """The order with its files at the provider; None: the provider still looks through them.

        Raises:
            Permanent: the provider or the model has closed, a wish cannot be heeded, or a file is refused
        """
        begun = self.place.may_have_begun()  # then what there is comes first, whatever stands in its way by now
        asked = {field: getattr(spec, field) for field in SPEC_FIELDS}
        order = Order(self._base_model(spec.base_model), "", **asked)
        if not begun:
            self._refuse_what_is_over(self.wanted(order))
            self._refuse_unheeded(order)
        files = {field: self._send(field, ref, order) for field, ref in datasets.items() if ref is not None}
        for field, sent in files.items() if not begun else ():
            if sent.get("server", "") != self.place.server:
                raise self._to_send_again(field, f"{sent['file']} is at another server than the account")
        looked_at = begun or self.place.job.has_slot  # before it asked for the slot that it was given
        if not looked_at and not all(
            self._is_ready(field, datasets[field], order, sent) for field, sent in files.items()
        ):
            return None
        holdout = files.get("holdout")
        return replace(
            order, training_file=files["dataset"]["file"], validation_file=holdout["file"] if holdout else None
        )

    def start(self, order: Order, cap_usd: float | None) -> str:
        """The id of the remote job, started if it is not yet.

        Raises:
            StandsStill: a cap would be broken, or no slot is free
        """
        begun = self.place.may_have_begun()
        self._agree(order, cap_usd, begun=begun)
        if not begun:
            self._take_slot(self.wanted(order), is_held=False)
        try:
            remote_id: str = self.attempt.once(
                "start",
                lambda key: self._create(order, key),
                find=self.provider.find,
                undo=self.provider.cancel,
                lag=lag_of(self.account),
            )
        except Permanent as error:
            if error.undone:
                self._send_again_what_is_gone()
                self._add_what_to_use(error, order)
            raise
        return remote_id

    def _add_what_to_use(self, error: Permanent, order: Order) -> None:
        """Say to a refusal what ends there, or which models like the one that it names there are."""
        wanted = self.wanted(order)
        more = list(self.warnings(wanted)) if error.cause == Cause.PROVIDER else []
        if order.base_model in str(error):
            more.append(self._nearest(order.base_model))
        error.args = ("; ".join(filter(None, (str(error), *more))),)

    def _nearest(self, model: str) -> str:
        """The models most like one that is not there; of a server of the user's own by what it offers."""
        names = [row.name for row in self.rows.models_of("" if self._is_own_server else self.api)]
        try:
            names = names or [offer.model for offer in self.provider.offers()]
        except TuneyardError as error:
            self.attempt.log.warning("%s does not tell its models: %s", self.name, error)
        near = [] if model in names else nearest_names(model, names)
        return f"nearest: {', '.join(near)}" if near else ""

    def _create(self, order: Order, key: str) -> str:
        """Create the remote job; one that might have been there, and is not, may have no slot yet."""
        try:
            self._take_slot(self.wanted(order), is_held=False, begins=True)
        except TuneyardError as error:
            error.undone = True
            raise
        try:
            return self.provider.start(order, key)
        except TuneyardError as error:
            if error.undone:
                self.place.refuse_start()
            raise

    def hold_slot(self, order: Order) -> None:
        """Keep the slot of a remote job that goes on, also of one that was adopted."""
        self._take_slot(self.wanted(order), is_held=True)

    def sent(self) -> dict[str, Any]:
        """What was sent, as the result tells it."""
        training, holdout = (self.attempt.recall(step) or {} for step in SENT.values())
        return {
            "examples": training["examples"],
            "holdout_examples": holdout.get("examples", 0),
            "dropped": training["dropped"],
        }

    def _base_model(self, name: str) -> str:
        """The name that the provider goes by, where the user left out its date."""
        return name if self._is_own_server else self.rows.dated(self.api, name)

    # -- before it is paid -------------------------------------------------------------------------------------------

    def wanted(self, order: Order) -> Wanted:
        """What the catalogue is asked for."""
        return Wanted(self.api, order.base_model, order.method, order.tuned)

    def _refuse_what_is_over(self, wanted: Wanted) -> None:
        """Refuse what has ended, or ends before a job started now is sure to be done; tell of what ends soon."""
        if self._is_own_server:
            return
        today = datetime.now(UTC).date()
        for closing in over(self.rows, wanted, today):
            raise Permanent(f"{self.name}: {said(closing, today)}", cause=Cause.PROVIDER)
        strange = self.rows.stranger(self.api, wanted.model)
        if strange and self.rows.tunes_only_what_is_listed(self.api):
            raise Invalid(f"{self.name}: {strange}")
        for word in filter(None, (*self.warnings(wanted), strange)):
            self.attempt.log.warning("%s: %s", self.name, word)

    def warnings(self, wanted: Wanted) -> tuple[str, ...]:
        """What ends within some months, or has ended for some customers."""
        today = datetime.now(UTC).date()
        found = () if self._is_own_server else ending(self.rows, wanted, today)
        return tuple(said(closing, today) for closing in found)

    @property
    def _is_own_server(self) -> bool:
        """Whether the account is at a server of the user's own, of which the catalogue knows nothing."""
        return self.rows.is_own_server(self.api, self.account.base_url)

    def _refuse_unheeded(self, order: Order) -> None:
        if order.method not in self.provider.methods:
            able = sorted({model.provider for model in self.rows.models if order.method in model.methods})
            does = f"it trains by {', '.join(sorted(self.provider.methods))}"
            raise Invalid(f"{self.name} does not train by {order.method}; {does}; {', '.join(able)} can")
        unheeded = sorted(set(order.wishes) - self.provider.takes)
        if unheeded:
            heeded = ", ".join(sorted(self.provider.takes - {"validation_file"}))
            raise Invalid(f"{self.name} cannot heed {', '.join(unheeded)}; leave it out (it takes {heeded})")

    def _send(self, field: str, ref: str, order: Order) -> dict[str, Any]:
        """Send a dataset, unless the account has it already."""

        def send(_: str) -> dict[str, Any]:
            attempt = self.attempt
            folder = attempt.workdir / f"{SENT[field]}-{attempt.number}"  # an attempt that lost its lease still writes
            source, target = attempt.artifacts.resolve(ref), target_of(self.api, order.method)
            asked = AskedFile(source, target, order.base_model, field == "holdout", ref, self.rows)
            made = write_training_file(asked, folder, lambda rows: attempt.report(checked=rows))
            file = self.place.send_once(made.digest, lambda: self.provider.upload(made.path))
            shutil.rmtree(folder)
            told = {"examples": made.examples, "dropped": made.dropped, "tokens": made.tokens, "exact": made.exact}
            return {"file": file, "digest": made.digest, "server": self.place.server, **told}

        sent: dict[str, Any] = self.attempt.once(SENT[field], send)
        return sent

    def _is_ready(self, field: str, ref: str | None, order: Order, sent: dict[str, Any]) -> bool:
        try:
            return self.provider.is_ready(sent["file"])
        except Unauthorized:
            raise
        except Permanent as error:
            self._send_again_if_gone(field, sent, error)
            self.place.forget_sent(sent["digest"])
            error.forget = (SENT[field],)  # a retry sends what the data is then
            if error.cause == Cause.DATA:
                error.args = (f"{error}; {origin({field: ref})}",)
            elif not isinstance(error, NotFound):
                check = f"`tuneyard data check FILE --target {target_of(self.api, order.method).name}`"
                error.args = (f"{error}; {check} shows whether the rows are in order, and a retry sends them again",)
            raise

    def _send_again_what_is_gone(self) -> None:
        """A create was refused: see whether the files that it names are there."""
        for field, step in SENT.items():
            sent = self.attempt.recall(step)
            try:
                if sent is not None:
                    self.provider.is_ready(sent["file"])
            except TuneyardError as error:  # the refusal itself says more than any other
                self._send_again_if_gone(field, sent, error)

    def _send_again_if_gone(self, field: str, sent: dict[str, Any], error: TuneyardError) -> None:
        """Let the file be sent once more, before anything is created; the second time the error stands."""
        if isinstance(error, NotFound) and self.place.may_send_again(SENT[field]):
            self.place.forget_sent(sent["digest"])
            raise self._to_send_again(field, f"there is no file {sent['file']} any more") from error

    def _to_send_again(self, field: str, why: str) -> Unsettled:
        error = Unsettled(f"{self.name}: {why}; the {field} is sent again", SEND_AGAIN_SECONDS)
        error.forget = (SENT[field],)
        return error

    def _agree(self, order: Order, cap_usd: float | None, *, begun: bool) -> None:
        """Commit to a price; of what may be there already the price is only noted, and nobody is asked for it."""
        bill = self.place.bill() if begun else None
        if bill is not None and bill.committed_at is not None and bill.quoted_at is not None:
            return
        quoted = self._listed(order) if begun else self._quoted(order)
        self.place.commit(quoted, Caps(self._run_cap(), self.account.cap_usd, self.account.cap_usd_a_day, job=cap_usd))

    def _listed(self, order: Order) -> Quoted:
        """The catalogue's price; the sandbox is free."""
        price = quote(self.rows, self._need(order), datetime.now(UTC).date())
        if is_free(self.attempt.settings, self.name):
            return Quoted(0.0, 0.0, price.tokens)
        return Quoted(price.low, price.high, price.tokens)

    def _quoted(self, order: Order) -> Quoted:
        """The provider's own price where it tells one, else the catalogue's."""
        listed, told = self._listed(order), self.provider.estimate(order)
        if told is None or is_free(self.attempt.settings, self.name):
            return listed
        if not told.allowed:
            advice = f"see to the account's limit, then `tuneyard jobs retry {self.attempt.job_id}`"
            raise Permanent(f"{self.name} would not start this: {told.why}; {advice}", cause=Cause.QUOTA)
        if sum_of(told.usd) is None:
            self.attempt.log.warning("%s tells %s USD, which is no price; it counts as unknown", self.name, told.usd)
        return Quoted(told.usd, told.usd, told.tokens or listed.tokens)

    def _run_cap(self) -> float | None:
        run_id = self.place.job.run_id
        return self.place.store.read.run(run_id).cap_usd if run_id is not None else None

    def _need(self, order: Order) -> Need:
        training, holdout = (self.attempt.recall(step) or {"tokens": 0} for step in SENT.values())
        need = Need(
            self.wanted(order), training["tokens"], order.epochs or 1, holdout["tokens"], exact=training["exact"]
        )
        machine = machine_of(self.rows, self.api, self.account.tier)
        found = run_time(self.place.store, self.name, order.base_model, need.trained) if machine else None
        return replace(need, machine=machine, seconds=(found.fastest, found.slowest) if found else None)

    def _take_slot(self, wanted: Wanted, *, is_held: bool, begins: bool = False) -> None:
        listing = self.rows.listings.get(self.api)
        if listing is not None and listing.slots == "none":
            return
        by_model = listing is not None and listing.slots == "model"
        pool = f"{self.name}/{wanted.model}" if by_model else self.name
        told = self.place.store.slots.get(pool)
        at_once = self._limit("jobs_at_once", wanted, told.told)
        if is_held:
            self.place.hold_slot(pool, size=at_once.value, source=at_once.source)
            return
        a_day = self._limit("jobs_a_day", wanted, told.told_a_day)
        self.place.take_slot(pool, size=at_once.value, source=at_once.source, a_day=a_day.value)
        if begins:
            self.place.begin_start(pool, a_day.value)

    def _limit(self, what: What, wanted: Wanted, told: int | None) -> Limit:
        """What holds; of a server of the user's own the catalogue knows nothing."""
        figure = None if self._is_own_server else self.rows.figure(what, wanted)
        return limit_of(self.name, self.account, what, Sayings(figure, told))

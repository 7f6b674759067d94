"""How a fine-tune is ordered: files sent, price agreed, slot taken, job started; each of them once."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from api_worker.catalogue import Wanted, catalogue
from api_worker.provider import Order
from api_worker.providers import api_of
from api_worker.quotes import Need, ending, over, quote, said
from queue_app.errors import Invalid, Permanent
from queue_app.lifecycle import Cause
from queue_app.store.money import Caps, Quoted
from tasks.hosting.training_file import AskedFile, target_of, write_training_file

if TYPE_CHECKING:
    from api_worker.provider import Provider
    from queue_app.at_account import AtAccount
    from queue_app.job_type import Attempt
    from settings import ProviderSettings

SENT = {"dataset": "upload", "holdout": "upload-holdout"}  # field of the spec → step
FREE = "sandbox"  # what the names of accounts begin with that train nothing
LONGEST_RUN = timedelta(days=3)  # queue and training at a provider; no provider promises less
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

    def order(self, spec: Any, datasets: dict[str, str | None]) -> Order | None:
        """The order with its files at the provider; None: the provider still looks through them.

        Raises:
            Permanent: the provider or the model has closed, a wish cannot be heeded, or a file is refused
        """
        begun = self.attempt.recall("start") is not None
        asked = {field: getattr(spec, field) for field in SPEC_FIELDS}
        order = Order(spec.base_model, "", **asked)
        if not begun:
            self._refuse_what_is_over(self.wanted(order))
            self._refuse_unheeded(order)
        files = {field: self._send(field, ref, order) for field, ref in datasets.items() if ref is not None}
        if not begun and not all(self._is_ready(field, sent) for field, sent in files.items()):
            return None
        holdout = files.get("holdout")
        return Order(
            spec.base_model, files["dataset"]["file"], validation_file=holdout["file"] if holdout else None, **asked
        )

    def start(self, order: Order, cap_usd: float | None) -> str:
        """The id of the remote job, started if it is not yet.

        Raises:
            StandsStill: a cap would be broken, or no slot is free
        """
        begun = self.attempt.recall("start") is not None
        if not begun:
            self._agree(order, cap_usd)
        self._take_slot(self.wanted(order), is_held=begun)  # an adopted job has its place there already
        try:
            remote_id: str = self.attempt.once(
                "start",
                lambda key: self.provider.start(order, key),
                find=self.provider.find,
                undo=self.provider.cancel,
                lag_seconds=self.account.listing_lag_seconds,
            )
        except Permanent as error:
            if error.undone:
                self.place.release()
            raise
        return remote_id

    def sent(self) -> dict[str, Any]:
        """What was sent, as the result tells it."""
        training, holdout = (self.attempt.recall(step) or {} for step in SENT.values())
        return {
            "examples": training["examples"],
            "holdout_examples": holdout.get("examples", 0),
            "dropped": training["dropped"],
        }

    # -- before it is paid -------------------------------------------------------------------------------------------

    def wanted(self, order: Order) -> Wanted:
        """What the catalogue is asked for."""
        return Wanted(self.api, order.base_model, order.method, order.tuned)

    def _refuse_what_is_over(self, wanted: Wanted) -> None:
        """Refuse what has ended, or ends before a job started now is sure to be done; tell of what ends soon."""
        if self._is_own_server:
            return
        today = datetime.now(UTC).date()
        for closing in over(catalogue(), wanted, today, done=today + LONGEST_RUN):
            raise Permanent(f"{self.name}: {said(closing, today)}", cause=Cause.PROVIDER)
        for word in self.warnings(wanted):
            self.attempt.log.warning("%s: %s", self.name, word)

    def warnings(self, wanted: Wanted) -> tuple[str, ...]:
        """What ends within some months, or has ended for some customers."""
        today = datetime.now(UTC).date()
        found = () if self._is_own_server else ending(catalogue(), wanted, today)
        return tuple(said(closing, today) for closing in found)

    @property
    def _is_own_server(self) -> bool:
        """Whether the account is at a server of the user's own, of which the catalogue knows nothing."""
        return self.account.base_url is not None and self.api != "azure"

    def _refuse_unheeded(self, order: Order) -> None:
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
            asked = AskedFile(source, target, order.base_model, is_holdout=field == "holdout")
            made = write_training_file(asked, folder, lambda rows: attempt.report(checked=rows))
            file = self.place.send_once(made.digest, lambda: self.provider.upload(made.path))
            shutil.rmtree(folder)
            told = {"examples": made.examples, "dropped": made.dropped, "tokens": made.tokens, "exact": made.exact}
            return {"file": file, "digest": made.digest, **told}

        sent: dict[str, Any] = self.attempt.once(SENT[field], send)
        return sent

    def _is_ready(self, field: str, sent: dict[str, Any]) -> bool:
        try:
            return self.provider.is_ready(sent["file"])
        except Permanent as error:
            self.place.forget_sent(sent["digest"])
            error.forget = (SENT[field],)  # a retry sends what the data is then
            raise

    def _agree(self, order: Order, cap_usd: float | None) -> None:
        """Commit to a price: the provider's own where it tells one, else the catalogue's; the sandbox is free."""
        price = quote(catalogue(), self._need(order), datetime.now(UTC).date())
        quoted = Quoted(price.low, price.high, price.tokens)
        if self.name.startswith(FREE):
            quoted = Quoted(0.0, 0.0, price.tokens)
        elif (told := self.provider.estimate(order)) is not None:
            if not told.allowed:
                advice = f"see to the account's limit, then `tuneyard jobs retry {self.attempt.job_id}`"
                raise Permanent(f"{self.name} would not start this: {told.why}; {advice}", cause=Cause.QUOTA)
            quoted = Quoted(told.usd, told.usd, told.tokens or price.tokens)
        caps = Caps(self._run_cap(), self.account.cap_usd, self.account.cap_usd_a_day, job=cap_usd)
        self.place.commit(quoted, caps)

    def _run_cap(self) -> float | None:
        run_id = self.place.job.run_id
        return self.place.store.read.run(run_id).cap_usd if run_id is not None else None

    def _need(self, order: Order) -> Need:
        training, holdout = (self.attempt.recall(step) or {"tokens": 0} for step in SENT.values())
        return Need(
            self.wanted(order), training["tokens"], order.epochs or 1, holdout["tokens"], exact=training["exact"]
        )

    def _take_slot(self, wanted: Wanted, *, is_held: bool) -> None:
        listing = catalogue().listings.get(self.api)
        if listing is not None and listing.slots == "none":
            return
        by_model = listing is not None and listing.slots == "model"
        pool = f"{self.name}/{wanted.model}" if by_model else self.name
        at_once, a_day = (self._limit(name, wanted) for name in ("jobs_at_once", "jobs_a_day"))
        self.place.take_slot(pool, size=at_once, a_day=a_day, is_held=is_held)

    def _limit(self, name: Any, wanted: Wanted) -> int | None:
        """What the settings say, else the catalogue; of a server of the user's own the catalogue knows nothing."""
        own = {"jobs_at_once": self.account.max_jobs, "jobs_a_day": self.account.max_jobs_a_day}[name]
        figure = None if self._is_own_server else catalogue().figure(name, wanted)
        return own if own is not None or figure is None else int(figure.value)

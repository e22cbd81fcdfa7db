"""`calotype users`: accounts of the service."""

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from calotype.cli.flags import argument, flag, flags, given_options, set_signature
from calotype.cli.show import print_json, table
from calotype.cli.wording import WORDING
from calotype.cli.worker import check_packages
from calotype.files import readable
from calotype.jobs.account import TRIAL_SECONDS, Account, Allowance
from calotype.options import as_data, read
from calotype.settings import Settings, gathered
from calotype.worker.worker_options import WorkerOptions

if TYPE_CHECKING:
    from calotype.jobs.users import Accounts

WORDS = ("admin", "disabled", "trial")  # of accounts
HELP = "Accounts of the service: who may use it, and how much."
NAME = argument("name", str, "name of the account", "NAME")
STORE = next(parameter for parameter in flags(WorkerOptions) if parameter.name == "store")
HOME = next(parameter for parameter in flags(Settings) if parameter.name == "home")
AS_JSON = flag("json", "as JSON")


def add(**values: Any) -> int:
    """Add an account, and print its token. The token cannot be shown again."""
    with _accounts(values) as accounts:
        allowance = read(Allowance, given_options(Allowance, values))
        account = accounts.add(values["name"], allowance, is_admin=values["admin"])
        _print_token(account.name, accounts.add_token(account.name), values["json"])
    return 0


def token(**values: Any) -> int:
    """Print a new token for an account; earlier ones stay valid unless --revoke is given."""
    with _accounts(values) as accounts:
        if values["revoke"]:
            accounts.remove_tokens(values["name"])
        _print_token(values["name"], accounts.add_token(values["name"]), values["json"])
    return 0


def list_(**values: Any) -> int:
    """List the accounts with what they may use."""
    with _accounts(values) as accounts:
        found, people = accounts.list(), accounts.people()
    if values["json"]:
        for account in found:
            print_json({**_facts(account), "people": [readable(name) for name in people.get(account.name, ())]})
        return 0
    columns = ["name", "", "seconds a day", "running", "queued", "GiB", "on Discord"]
    rows = [[*_row(account), ", ".join(map(readable, people.get(account.name, ())))] for account in found]
    table("", columns, [[str(value) for value in row] for row in rows])
    return 0


def budget(**values: Any) -> int:
    """Change what an account may use; what is not given stays as it is. --seconds 0 stops all jobs."""
    with _accounts(values) as accounts:
        account = accounts.find(values["name"])
        changes = given_options(Allowance, values)
        changed = read(Allowance, as_data(account.allowance) | changes)
        account = accounts.change(account.name, **as_data(changed))
    _print_account(account, values["json"])
    return 0


def disable(**values: Any) -> int:
    """Refuse all requests of an account. Its jobs and pictures are kept."""
    with _accounts(values) as accounts:
        account = accounts.change(values["name"], is_disabled=True)
    _print_account(account, values["json"])
    return 0


def enable(**values: Any) -> int:
    """Accept requests of an account again."""
    with _accounts(values) as accounts:
        account = accounts.change(values["name"], is_disabled=False)
    _print_account(account, values["json"])
    return 0


def invite(**values: Any) -> int:
    """Print an invitation, with which newcomers open accounts themselves; these have one trial together."""
    with _accounts(values) as accounts:
        invitation = accounts.invite(values["accounts"] or 1, values["seconds"] or TRIAL_SECONDS)
    if values["json"]:
        print_json({"invitation": invitation})
    else:
        print(invitation)
    return 0


def link(**values: Any) -> int:
    """Print a code with which an account is used on Discord too: /link CODE, once, within a quarter of an hour."""
    with _accounts(values) as accounts:
        code = accounts.add_code(accounts.find(values["name"]))
    if values["json"]:
        print_json({"name": values["name"], "code": code})
    else:
        print(code)
    return 0


@contextlib.contextmanager
def _accounts(values: dict[str, Any]) -> "Iterator[Accounts]":
    check_packages("argon2")
    from calotype.jobs.users import Accounts
    from calotype.worker.supervisor import ProcessSetup

    settings = Settings.gather({"home": values["home"]})
    setup = ProcessSetup(settings, gathered(WorkerOptions, {"store": values["store"]}), "")
    with contextlib.closing(setup.open_store()) as store:
        yield Accounts(store.database)


def _print_token(name: str, token: str, is_json: bool) -> None:
    if is_json:
        print_json({"name": name, "token": token})
    else:
        print(token)


def _print_account(account: Account, is_json: bool) -> None:
    if is_json:
        print_json(_facts(account))
    else:
        print(", ".join(f"{name} {value}" for name, value in _facts(account).items() if value not in (None, False, "")))


def _facts(account: Account) -> dict[str, Any]:
    facts = {"name": readable(account.name), "admin": account.is_admin, "disabled": account.is_disabled}
    return {**facts, "trial": account.invitation is not None, **as_data(account.allowance)}


def _row(account: Account) -> list[Any]:
    marks = {"admin": account.is_admin, "disabled": account.is_disabled, "trial": account.invitation}
    allowance, limit = account.allowance, account.budget.seconds
    seconds = WORDING.translate("no limit") if limit is None else f"{limit:g}"
    names = ", ".join(WORDING.translate(name) for name, is_set in marks.items() if is_set)
    return [account.name, names, seconds, allowance.max_running, allowance.max_queued, allowance.max_stored]


set_signature(add, NAME, flag("admin", "may read the figures of the service"), *flags(Allowance), STORE, HOME, AS_JSON)
set_signature(token, NAME, flag("revoke", "first revoke all earlier tokens of the account"), STORE, HOME, AS_JSON)
set_signature(list_, STORE, HOME, AS_JSON)
set_signature(budget, NAME, *flags(Allowance), STORE, HOME, AS_JSON)
set_signature(link, NAME, STORE, HOME, AS_JSON)
set_signature(disable, NAME, STORE, HOME, AS_JSON)
set_signature(enable, NAME, STORE, HOME, AS_JSON)
set_signature(
    invite,
    flag("accounts", "accounts that may be opened with it (default 1)", kind=int | None, metavar="N", min=1),
    flag("seconds", "device seconds of all of them (default 600)", kind=float | None, metavar="X", min=0),
    STORE,
    HOME,
    AS_JSON,
)

COMMANDS = (add, list_, token, budget, disable, enable, invite, link)

"""Tables of accounts and of what belongs to them, besides those of the jobs (`schema.py`)."""

from sqlalchemy import Boolean, Column, Double, ForeignKey, Integer, String, Table, Text, false

from calotype.jobs.schema import METADATA, JsonText

INVITATIONS = Table(
    "invitations",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("hash", String(200), nullable=False),
    Column("max_accounts", Integer, nullable=False),
    Column("seconds", Double, nullable=False),  # of devices, for all accounts that came with it together
    Column("is_disabled", Boolean, nullable=False),
    Column("created", Double, nullable=False),
)

USERS = Table(
    "users",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False, unique=True),
    Column("is_admin", Boolean, nullable=False),
    Column("is_disabled", Boolean, nullable=False),
    Column("seconds", Double),  # of devices a day
    Column("max_running", Integer, nullable=False),
    Column("max_queued", Integer, nullable=False),
    Column("max_stored", Double, nullable=False),  # GiB of uploads and models
    Column("invitation", ForeignKey("invitations.id"), index=True),
    Column("created", Double, nullable=False),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("id", String(16), primary_key=True),
    Column("user", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("hash", String(200), nullable=False),
    Column("created", Double, nullable=False),
)

PRESETS = Table(
    "presets",
    METADATA,
    Column("owner", String(64), primary_key=True),
    Column("name", String(100), primary_key=True),
    Column("kind", String(64), nullable=False),
    Column("task", JsonText, nullable=False),
)

LINKS = Table(
    "links",
    METADATA,
    Column("id", String(32), primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),  # of the secret part of the address
    Column("owner", String(64), nullable=False, index=True),
    Column("job", String(32), nullable=False),
    Column("result", String(32), nullable=False),
    Column("suffix", String(16), nullable=False),
    Column("media_type", String(128), nullable=False),
    Column("created", Double, nullable=False),
)

CHAT_MEMBERS = Table(
    "chat_members",
    METADATA,
    Column("id", String(32), primary_key=True),  # of the person on Discord
    Column("user", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),  # that is charged
    Column("own_user", String(32), nullable=False, server_default=""),  # that was opened for Discord; it has no token
    Column("is_banned", Boolean, nullable=False),
    Column("options", JsonText, nullable=False),  # of /settings
    Column("name", String(100), nullable=False, server_default=""),  # as Discord shows it
    Column("is_granted", Boolean, nullable=False, server_default=false()),  # else the bot's settings say how much
    Column("granted", Double),  # device seconds a day of the own account; no limit if empty, of who is granted some
    Column(
        "moved", Double, nullable=False, server_default="0"
    ),  # device seconds that count for the account of the page
    Column("moved_day", Integer, nullable=False, server_default="0"),  # since 1970, in UTC: when it was linked
    Column("created", Double, nullable=False),
)

CHAT_ROLES = Table(
    "chat_roles",
    METADATA,
    Column("member", ForeignKey("chat_members.id", ondelete="CASCADE"), primary_key=True),
    Column("server", String(32), primary_key=True),  # on Discord; empty: it was not known
    Column("roles", JsonText, nullable=False),  # ids
    Column("seen", Double, nullable=False),  # when the person was there
)

CHAT_MESSAGES = Table(
    "chat_messages",
    METADATA,
    Column("job", ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("member", String(32), nullable=False),  # whose job it is
    Column("channel", String(32), nullable=False),
    Column("message", String(32), nullable=False),  # empty until it is sent
    Column("parent", Text, nullable=False),  # address of the message whose button was pressed, or empty
    Column("text", Text, nullable=False),  # the prompt as it was written
    Column("language", String(8), nullable=False),
    Column("number", Integer, nullable=False),  # of the last event of the job that the message shows
    Column("is_final", Boolean, nullable=False, index=True),  # it shows the end of the job
)

CHAT_PRESSES = Table(
    "chat_presses",
    METADATA,
    Column("key", String(100), primary_key=True),  # a button
    Column("address", Text, nullable=False),  # of the message that it brought
)

CHAT_OPTIONS = Table(
    "chat_options",
    METADATA,
    Column("id", String(40), primary_key=True),  # channel-ID or role-ID
    Column("options", JsonText, nullable=False),
)

CHAT_CODES = Table(
    "chat_codes",
    METADATA,
    Column("hash", String(64), primary_key=True),
    Column("user", ForeignKey("users.id", ondelete="CASCADE"), nullable=False, index=True),
    Column("until", Double, nullable=False),
)

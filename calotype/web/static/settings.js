// <ct-settings>: one's own account and its limits; for the owner, all accounts and invitations.

import { call, get, post } from "./api.js";
import { el, guarded, keepFocus, toast } from "./dom.js";
import { _, duration } from "./texts.js";

const LIMITS = [
  ["seconds", () => _("Device seconds a day")],
  ["max_running", () => _("Jobs at a time")],
  ["max_queued", () => _("Waiting jobs")],
  ["max_stored", () => _("GiB of uploads and models")],
];

customElements.define(
  "ct-settings",
  class extends HTMLElement {
    connectedCallback() {
      this.own = el("section", {});
      this.people = el("section", {});
      this.secrets = el("section", { "aria-live": "polite" }); // of people; what is shown once stays while they change
      this.replaceChildren(el("div", { class: "ct-narrow" }, this.own, this.secrets, this.people));
      this.shown = new IntersectionObserver((entries) => entries.at(-1).isIntersecting && this.read());
      this.shown.observe(this);
    }

    disconnectedCallback() {
      this.shown.disconnect();
    }

    /** Reads the account and its limits, and all accounts: whenever the tab is shown. */
    async read() {
      try {
        this.me = await get("/me");
        const accounts = this.me.is_admin && this.me.has_accounts ? await get("/accounts") : null;
        const isChanged = JSON.stringify(accounts) !== JSON.stringify(this.accounts);
        this.accounts = accounts;
        this.showOwn();
        if (isChanged) this.showPeople(); // else what is typed there stays
      } catch (fault) {
        this.own.replaceChildren(el("p", { class: "ct-fault", role: "alert" }, fault.message));
      }
    }

    get isSingle() {
      return this.me.is_admin && !this.accounts?.length;
    }

    showOwn() {
      const { me } = this;
      if (this.isSingle) {
        this.own.replaceChildren(el("h2", {}, _("Single user")), el("p", {}, _("Only this computer reaches the service, and whoever sits at it may use all of it. There is no log-in and no limit.")));
        return;
      }
      const of = (used, limit) => (limit === null ? String(used) : _("{used} of {limit}", { used, limit }));
      const timeUsed = me.seconds_used ? duration(me.seconds_used) : _("{count} s", { count: 0 });
      const time = me.seconds_limit === null ? timeUsed : _("{used} of {limit}", { used: timeUsed, limit: duration(me.seconds_limit) });
      const rows = [[_("Account"), me.name], [_("Device time"), time], [_("Jobs at work"), of(me.running_jobs, me.running_limit)], [_("Waiting jobs"), of(me.queued_jobs, me.queued_limit)]];
      this.own.replaceChildren(el("h2", {}, _("My account")), ...rows.map(([name, value]) => el("div", { class: "ct-row" }, el("span", { class: "ct-soft" }, name), el("span", {}, value))));
    }

    showPeople() {
      if (!this.me.is_admin || this.accounts === null) return this.people.replaceChildren();
      this.opened = new Set([...this.people.querySelectorAll("details[open]")].map((person) => person.dataset.account));
      const parts = [
        el("h2", {}, _("People")),
        this.accounts.length ? null : el("p", { class: "ct-soft" }, _("With the first account the log-in begins; it is the owner's. Keep its token.")),
        ...this.accounts.map((account) => this.row(account)),
        el("h3", {}, _("Add somebody")),
        this.adding(),
        ...(this.accounts.length ? [el("h3", {}, _("Invite")), this.inviting()] : []),
      ];
      keepFocus(this.people, () => this.people.replaceChildren(...parts.filter(Boolean)));
    }

    field(title, name, value, more = {}) {
      const input = el("input", { type: "number", min: "0", step: "any", name, value: value === null ? "" : String(value), ...more });
      return el("label", { class: "ct-stack" }, el("span", {}, title), input);
    }

    /** A form; what it throws appears beside the field it is about. */
    form(key, fields, label, send) {
      const answer = el("div", { "aria-live": "polite" });
      const go = el("button", { type: "submit", "data-key": key }, label);
      for (const input of fields.map((field) => field.querySelector("input"))) input.dataset.key = `${key}-${input.name}`;
      let isSending = false;
      const form = el("form", {}, el("div", { class: "ct-fields" }, fields), go, answer);
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        if (isSending) return;
        isSending = true; // not a disabled button: it would lose the focus
        for (const fault of form.querySelectorAll(".ct-fault")) fault.remove();
        const values = {};
        for (const input of form.querySelectorAll("input[name]")) {
          values[input.name] = input.type === "number" ? (input.value === "" ? null : Number(input.value)) : input.value.trim();
        }
        try {
          await send(values);
        } catch (fault) {
          const input = form.querySelector(`input[name="${CSS.escape(fault.option || "-")}"]`);
          (input?.parentElement ?? answer).append(el("p", { class: "ct-fault", role: "alert" }, fault.message));
          input?.focus();
        }
        isSending = false;
      });
      return form;
    }

    row(account) {
      const people = account.people.join(", ");
      const isChat = account.name.startsWith("discord-"); // opened by the bot: nobody logs in with it
      const title = isChat && people ? people : account.name;
      const facts = [isChat ? _("on Discord") : people && _("{name} on Discord", { name: people }), account.is_admin && _("owner"), account.is_trial && _("invited"), account.is_disabled && _("disabled"), account.is_trial ? "" : account.seconds === null ? _("no limit of time") : _("{time} a day", { time: duration(account.seconds) })];
      const save = (changes) => call("PATCH", `/accounts/${encodeURIComponent(account.name)}`, changes);
      const again = async (run) => {
        await run();
        await this.read();
      };
      const fault = el("p", { class: "ct-fault", role: "alert" });
      const toggle = async () => {
        try {
          await again(() => save({ is_disabled: !account.is_disabled }));
        } catch (refused) {
          fault.textContent = refused.message;
        }
      };
      const limits = this.form(account.name, LIMITS.map(([name, title]) => this.field(title(), name, account[name])), _("Save"), async (values) => {
        await again(() => save(values));
        toast(_("The limits of {name} are saved", { name: title }));
      });
      const give = () => guarded(async () => this.tell(_("A new token of {name}. It is shown only now.", { name: account.name }), (await post(`/accounts/${encodeURIComponent(account.name)}/tokens`)).token));
      return el(
        "details",
        { class: "ct-person", "data-account": account.name, open: this.opened.has(account.name) },
        el("summary", {}, el("strong", { title: account.name }, title), " ", el("span", { class: "ct-soft" }, facts.filter(Boolean).join(" · "))),
        limits,
        el("div", { class: "ct-bar ct-foot-left" }, isChat ? null : el("button", { type: "button", class: "ct-plain", "data-key": `${account.name}-token`, onclick: give }, _("New token")), account.name === this.me.name ? null : el("button", { type: "button", class: "ct-plain", "data-key": `${account.name}-toggle`, onclick: toggle }, account.is_disabled ? _("Enable") : _("Disable"))),
        fault,
      );
    }

    /** Shows what is shown only once, until it is closed. */
    tell(text, value, more = []) {
      const copy = () => guarded(() => navigator.clipboard.writeText(value).then(() => toast(_("Copied"))));
      const close = el("button", { type: "button", class: "ct-plain", onclick: () => box.remove() }, _("Close"));
      const buttons = [navigator.clipboard && el("button", { type: "button", onclick: copy }, _("Copy")), ...more, close];
      const box = el("div", {}, el("p", {}, text), el("p", { class: "ct-secret" }, value), el("div", { class: "ct-bar" }, buttons));
      this.secrets.append(box);
      box.scrollIntoView({ block: "nearest" });
    }

    adding() {
      const name = this.field(_("Name"), "name", "", { type: "text", maxLength: 64, autocomplete: "off", required: true });
      return this.form("add", [name, this.field(_("Device seconds a day"), "seconds", null)], _("Add"), async (values) => {
        const isFirst = !this.accounts.length;
        const made = await post("/accounts", values);
        this.tell(_("The token of {name}. It is shown only now.", { name: made.name }), made.token, isFirst ? [el("a", { class: "ct-button", href: "/login" }, _("Log in"))] : []);
        if (isFirst) return;
        this.accounts = await get("/accounts");
        this.showPeople();
      });
    }

    inviting() {
      const fields = [this.field(_("Accounts"), "accounts", 1), this.field(_("Device seconds together"), "seconds", 600)];
      return this.form("invite", fields, _("Make an invitation"), async (values) => this.tell(_("Send this to whom you invite. With it an account is opened at {address}. It is shown only now.", { address: `${location.origin}/login` }), (await post("/invitations", values)).invitation));
    }
  },
);

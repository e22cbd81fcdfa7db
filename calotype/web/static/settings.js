// <ct-settings>: one's own account and its limits; for the owner, all accounts and invitations.

import { call, get, post } from "./api.js";
import { el, toast } from "./dom.js";
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
      this.replaceChildren(el("div", { class: "ct-narrow" }, this.own, this.people));
      this.read();
    }

    async read() {
      try {
        this.me = await get("/me");
        this.accounts = this.me.is_admin && this.me.has_accounts ? await get("/accounts") : null;
        this.showOwn();
        this.showPeople();
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
      this.people.replaceChildren(...parts.filter(Boolean));
    }

    field(title, name, value, more = {}) {
      const input = el("input", { type: "number", min: "0", step: "any", name, value: value === null ? "" : String(value), ...more });
      return el("label", { class: "ct-stack" }, el("span", {}, title), input);
    }

    /** A form; what it throws appears beside the field it is about. */
    form(fields, label, send) {
      const answer = el("div", { "aria-live": "polite" });
      const go = el("button", { type: "submit" }, label);
      const form = el("form", {}, el("div", { class: "ct-fields" }, fields), go, answer);
      form.addEventListener("submit", async (event) => {
        event.preventDefault();
        for (const fault of form.querySelectorAll(".ct-fault")) fault.remove();
        const values = {};
        for (const input of form.querySelectorAll("input[name]")) {
          values[input.name] = input.type === "number" ? (input.value === "" ? null : Number(input.value)) : input.value.trim();
        }
        try {
          go.disabled = true;
          answer.replaceChildren(...((await send(values)) ?? []));
        } catch (fault) {
          const input = form.querySelector(`input[name="${CSS.escape(fault.option || "-")}"]`);
          (input?.parentElement ?? answer).append(el("p", { class: "ct-fault", role: "alert" }, fault.message));
          input?.focus();
        }
        go.disabled = false;
      });
      return form;
    }

    row(account) {
      const facts = [account.is_admin && _("owner"), account.is_trial && _("invited"), account.is_disabled && _("disabled"), account.is_trial ? "" : account.seconds === null ? _("no limit of time") : _("{time} a day", { time: duration(account.seconds) })];
      const save = (changes) => call("PATCH", `/accounts/${encodeURIComponent(account.name)}`, changes);
      const again = async (run) => {
        const shown = await run();
        await this.read();
        return shown;
      };
      const fault = el("p", { class: "ct-fault", role: "alert" });
      const toggle = async () => {
        try {
          await again(() => save({ is_disabled: !account.is_disabled }));
        } catch (refused) {
          fault.textContent = refused.message;
        }
      };
      const limits = this.form(LIMITS.map(([name, title]) => this.field(title(), name, account[name])), _("Save"), async (values) => {
        await again(() => save(values));
        toast(_("The limits of {name} are saved", { name: account.name }));
        return [];
      });
      const token = el("div", { "aria-live": "polite" });
      const give = async () => token.replaceChildren(...this.secret(_("A new token of {name}. It is shown only now.", { name: account.name }), (await post(`/accounts/${encodeURIComponent(account.name)}/tokens`)).token));
      return el(
        "details",
        { class: "ct-person", "data-account": account.name, open: this.opened.has(account.name) },
        el("summary", {}, el("strong", {}, account.name), " ", el("span", { class: "ct-soft" }, facts.filter(Boolean).join(" · "))),
        limits,
        el("div", { class: "ct-bar ct-foot-left" }, el("button", { type: "button", class: "ct-plain", onclick: give }, _("New token")), account.name === this.me.name ? null : el("button", { type: "button", class: "ct-plain", onclick: toggle }, account.is_disabled ? _("Enable") : _("Disable"))),
        token,
        fault,
      );
    }

    secret(text, value) {
      return [el("p", {}, text), el("p", { class: "ct-secret" }, value)];
    }

    adding() {
      const name = this.field(_("Name"), "name", "", { type: "text", maxLength: 64, autocomplete: "off", required: true });
      return this.form([name, this.field(_("Device seconds a day"), "seconds", null)], _("Add"), async (values) => {
        const isFirst = !this.accounts.length;
        const made = await post("/accounts", values);
        const shown = this.secret(_("The token of {name}. It is shown only now.", { name: made.name }), made.token);
        if (isFirst) return [...shown, el("a", { class: "ct-button", href: "/login" }, _("Log in"))];
        this.accounts = await get("/accounts");
        this.showPeople();
        this.people.querySelector("form:not(details form)")?.after(...shown);
        return [];
      });
    }

    inviting() {
      const fields = [this.field(_("Accounts"), "accounts", 1), this.field(_("Device seconds together"), "seconds", 600)];
      return this.form(fields, _("Make an invitation"), async (values) => this.secret(_("Send this to whom you invite. With it an account is opened at {address}. It is shown only now.", { address: `${location.origin}/login` }), (await post("/invitations", values)).invitation));
    }
  },
);

/* <active-sessions>: lists a user's own sessions, signs out one or all others, and shows the progress.

   Attributes  src       the address of the sessions (default: beside this file, because the app's
                         route serves both; set it for a copy elsewhere or in a bundle)
               sign-in-url  where to sign in again (default /)
               lang      for times and numbers (default: the page's). The texts are English, so
                         without any text-... attribute it applies only if it is English, too
               text-...  any text of TEXTS below, such as text-sign-out="Abmelden";
                         {names} in braces are replaced
   Property    getToken  an async function that returns an access token, if the page uses no cookie
   Events      sessions-loaded, session-ended (detail.id), sign-in-needed: cancel it to stay
   Style       --as-accent, --as-danger, --as-surface, --as-line, --as-ink, --as-quiet, --as-radius,
               --as-font; ::part(card), ::part(button). Follows the page's color-scheme: a page that
               is always light has a light component even if the system is dark */

const TEXTS = {
  loading: "Loading your sessions",
  current: "Current",
  "sign-out": "Sign out",
  "sign-out-of": "Sign out {device}",
  "sign-out-others": "Sign out everywhere else",
  "confirm-one": "Sign out {device}?",
  "confirm-others": "Sign out of all other sessions ({count})?",
  yes: "Sign out",
  no: "Cancel",
  "last-active": "Last active {when}",
  "last-active-from": "Last active {when} from {ip}",
  "first-seen": "First sign-in {when}",
  "first-seen-from": "First sign-in {when} from {ip}",
  "expires": "Ends {when} at the latest",
  "unknown-device": "Unknown device",
  "on": "{browser} on {os}",
  "just-now": "just now",
  ending: "Signing out",
  progress: "Signed out of {done} of {total} apps",
  done: "Signed out of all apps.",
  "done-partly": "Signed out of {done} of {total} apps; the others follow when they are used.",
  "done-quietly": "Signed out.",
  "others-ending": "{done} of {count} sessions signed out",
  "others-done": "{count} sessions signed out of all apps.",
  "others-later": "{count} sessions signed out. Some apps follow when they are used.",
  "others-partly": "{done} of {count} sessions signed out. Your provider has not confirmed the others yet.",
  unconfirmed: "Your provider has not confirmed this yet. Check again in a few minutes.",
  "only-this": "You are signed in nowhere else.",
  none: "No active sessions.",
  retry: "Try again",
  "sign-in": "Sign in again",
  "error-signed-out": "Your sign-in has ended. Sign in again to see your sessions.",
  "error-limited": "Too many requests. Try again in {seconds} s.",
  "error-provider": "Your provider does not answer right now. Nothing was changed.",
  "error-service": "This does not work right now. Nothing was changed.",
  "error-lost": "No answer arrived, so this may or may not have been done. Check again.",
  "error-offline": "You seem to be offline. Nothing was changed.",
  "error-gone": "This session had already ended.",
  "error-current": "This session is not known to your provider. Sign in again first.",
  "error-other": "That did not work. Nothing was changed.",
};

const STYLE = `
:host { display: block; position: relative; color: var(--_ink); font: var(--as-font, inherit);
  --_accent: var(--as-accent, #2456d6); --_danger: var(--as-danger, #b3261e);
  --_surface: var(--as-surface, #fff); --_line: var(--as-line, #d9dee7);
  --_ink: var(--as-ink, #1a1f29); --_quiet: var(--as-quiet, #596273);
  --_tint: var(--as-tint, #eaf0ff); --_good: var(--as-good, #17663a);
  --_radius: var(--as-radius, 14px); }
@supports (color: light-dark(#000, #fff)) { :host {
  --_accent: var(--as-accent, light-dark(#2456d6, #8fb0ff));
  --_danger: var(--as-danger, light-dark(#b3261e, #ff9d94));
  --_surface: var(--as-surface, light-dark(#fff, #1a1f28));
  --_line: var(--as-line, light-dark(#d9dee7, #343c4a));
  --_ink: var(--as-ink, light-dark(#1a1f29, #e8ebf1));
  --_quiet: var(--as-quiet, light-dark(#596273, #a9b3c3));
  --_tint: var(--as-tint, light-dark(#eaf0ff, #22304f));
  --_good: var(--as-good, light-dark(#17663a, #7fd6a3)); } }
:host([hidden]), [hidden] { display: none !important; }
* { box-sizing: border-box; }
ul { list-style: none; margin: 0; padding: 0; border: 1px solid var(--_line);
  border-radius: var(--_radius); background: var(--_surface); overflow: hidden; }
li { display: grid; grid-template-columns: 2.75rem 1fr auto; gap: .25rem 1rem; padding: 1rem 1.125rem;
  align-items: center; }
li:focus-visible, .sum:focus-visible { outline: 3px solid var(--_accent); outline-offset: -3px; }
li + li { border-top: 1px solid var(--_line); }
.icon { width: 2.75rem; height: 2.75rem; border-radius: 12px; display: grid; place-items: center;
  background: var(--_tint); color: var(--_accent); align-self: start; }
.icon svg { width: 1.4rem; height: 1.4rem; fill: none; stroke: currentColor; stroke-width: 1.8;
  stroke-linecap: round; stroke-linejoin: round; }
.what { min-width: 0; overflow-wrap: anywhere; }
.name { font-weight: 600; display: flex; flex-wrap: wrap; gap: .25rem .625rem; align-items: center; }
.badge { font-size: .75rem; font-weight: 600; line-height: 1; padding: .3rem .55rem; border-radius: 99px;
  background: var(--_tint); color: var(--_accent); }
.facts { color: var(--_quiet); font-size: .875rem; line-height: 1.45; margin-top: .125rem; }
.facts span { display: block; }
button { font: inherit; font-size: .9375rem; font-weight: 550; min-height: 2.75rem; padding: .5rem 1rem;
  border-radius: 10px; border: 1px solid var(--_line); background: transparent; color: var(--_ink);
  cursor: pointer; white-space: nowrap; }
button:hover { border-color: currentColor; }
button:focus-visible { outline: 3px solid var(--_accent); outline-offset: 2px; }
button.danger { color: var(--_danger); }
button.sure { background: var(--_danger); border-color: var(--_danger); color: var(--_surface); }
button:disabled { opacity: .55; cursor: default; }
.ask { grid-column: 1 / -1; display: flex; flex-wrap: wrap; gap: .625rem; align-items: center;
  margin-top: .75rem; padding-top: .875rem; border-top: 1px dashed var(--_line); }
.ask p { flex: 1 1 12rem; margin: 0; font-weight: 550; }
.progress { grid-column: 2 / -1; font-size: .875rem; color: var(--_quiet); margin-top: .375rem; }
.progress.good { color: var(--_good); }
.bar { height: 4px; border-radius: 4px; background: var(--_line); margin-top: .4rem; overflow: hidden; }
.bar i { display: block; height: 100%; width: 100%; background: var(--_accent); transform-origin: left;
  transition: transform .3s; }
.good .bar { display: none; }
li.over .name { color: var(--_quiet); text-decoration: line-through; }
li.over .icon { opacity: .55; }
.foot { margin-top: 1rem; display: flex; flex-wrap: wrap; gap: .625rem; align-items: center; }
.foot p { flex: 1 1 14rem; margin: 0; font-weight: 550; }
.notice { margin: 0 0 1rem; padding: .875rem 1.125rem; border-radius: var(--_radius);
  border: 1px solid var(--_danger); background: var(--_surface); display: flex; flex-wrap: wrap;
  gap: .625rem 1rem; align-items: center; }
.notice p { margin: 0; flex: 1 1 14rem; }
.said { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%);
  white-space: nowrap; }
.wait { color: var(--_quiet); padding: 1.5rem 0; }
.none { color: var(--_quiet); margin: 0; }
@media (max-width: 30rem) {
  li { grid-template-columns: 2.75rem 1fr; }
  li > button { grid-column: 1 / -1; margin-top: .5rem; width: 100%; }
  .ask button, .foot button, .notice button { flex: 1 1 auto; }
}
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
`;

const SHAPES = {
  desktop: ["M3 5.5h18v11H3z", "M8.5 20h7M12 16.5V20"],
  phone: ["M7.5 2.5h9v19h-9z", "M11 18.5h2"],
  tablet: ["M5 2.5h14v19H5z", "M11 18.5h2"],
  robot: ["M5 9h14v10H5z", "M12 5v4M9 13.5v1M15 13.5v1"],
  unknown: ["M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z", "M9.7 9.4a2.4 2.4 0 1 1 3.4 2.3c-.8.4-1.1.8-1.1 1.6M12 16.6v.1"],
};

let sheet;
try { sheet = new CSSStyleSheet(); sheet.replaceSync(STYLE); } catch { sheet = null; }

class Failure extends Error {
  constructor(kind, values = {}) { super(kind); this.kind = kind; this.values = values; }
}

/* A browser has six connections to one origin, and an app may need a thread per stream: a few
   terminations are streamed, the others polled in turn, within a user's rate limit. */
const MAX_STREAMS = 3;
const POLL_MS = 700;

/* One request polls all sessions that one request ended. */
const GROUP_POLL_MS = 1000;

/* A path on the page's own origin, even if this file comes from another one. */
const DEFAULT_SRC = new URL("sessions", import.meta.url).pathname;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/* Inserts values as text, never as markup: anybody can send any user agent. */
function make(tag, options = {}, ...children) {
  const { on, ...rest } = options;
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(rest)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : value);
  }
  if (on) element.addEventListener("click", on);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

class ActiveSessions extends HTMLElement {
  #root = this.attachShadow({ mode: "open" });
  #content = make("div");
  #announcer = make("div", { class: "said", role: "status" });      // stays, so that screen readers announce changes
  #sessions = null;
  #terminations = new Map();      // id -> its progress
  #confirming = null;     // the id, or "others", that awaits confirmation
  #failure = null;
  #group = null;          // the ids that one request ended; one sentence describes them
  #pending = new Set();   // requests in progress: ids, and "others"
  #offset = 0;            // milliseconds by which the server's clock is ahead of the browser's
  #loads = 0;
  #timer = null;
  #alive = false;
  #getToken = null;
  #followed = 0;
  #streams = 0;

  constructor() {
    super();
    // A value set before this script was loaded would hide the accessor below.
    if (Object.hasOwn(this, "getToken")) {
      this.#getToken = this.getToken;
      delete this.getToken;
    }
  }

  get getToken() { return this.#getToken; }
  set getToken(value) {
    this.#getToken = value;
    if (this.#alive) this.load();      // requests without it were refused
  }

  connectedCallback() {
    if (sheet) this.#root.adoptedStyleSheets = [sheet];
    this.#root.append(this.#content, this.#announcer);
    this.#alive = true;
    this.load();
    this.#timer = setInterval(() => { if (!this.#pending.size && !this.#confirming) this.#draw(); }, 30000);
    document.addEventListener("visibilitychange", this.#onVisible);
  }

  disconnectedCallback() {
    this.#alive = false;
    clearInterval(this.#timer);
    document.removeEventListener("visibilitychange", this.#onVisible);
  }

  #onVisible = () => { if (document.visibilityState === "visible" && !this.#confirming) this.load(); };

  get #src() { return (this.getAttribute("src") || DEFAULT_SRC).replace(/\/$/, ""); }

  #text(name, values = {}) {
    const text = this.getAttribute(`text-${name}`) ?? TEXTS[name];
    return text.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
  }

  /* Keeps texts and times in one language: the texts are English unless the page translates them. */
  get #language() {
    const wanted = this.lang || document.documentElement.lang || undefined;
    const translated = this.getAttributeNames().some((name) => name.startsWith("text-"));
    return translated || /^en\b/i.test(wanted ?? "") ? wanted : "en";
  }

  #when(time) {
    // These times are in the past, even if the clocks disagree.
    const seconds = Math.min(0, (Date.parse(time) - Date.now() - this.#offset) / 1000);
    if (Math.abs(seconds) < 60) return this.#text("just-now");
    const units = [["day", 86400], ["hour", 3600], ["minute", 60]];
    const [unit, size] = units.find(([, length]) => Math.abs(seconds) >= length);
    if (unit === "day" && Math.abs(seconds) > 30 * 86400) {
      return new Intl.DateTimeFormat(this.#language, { dateStyle: "medium" }).format(Date.parse(time));
    }
    return new Intl.RelativeTimeFormat(this.#language, { numeric: "auto" })
      .format(Math.trunc(seconds / size), unit);
  }

  /* -- requests ----------------------------------------------------------------------------- */

  async #request(method, path = "", accept = "application/json") {
    const headers = { Accept: accept, "X-Requested-With": "active-sessions" };
    if (this.getToken) headers.Authorization = `Bearer ${await this.getToken()}`;
    let answer;
    try {
      answer = await fetch(this.#src + path,
        { method, headers, cache: "no-store", credentials: "same-origin", redirect: "error" });
    } catch {
      if (!navigator.onLine) throw new Failure("error-offline");
      throw new Failure(method === "DELETE" ? "error-lost" : "error-service");
    }
    const date = Date.parse(answer.headers.get("Date") ?? "");
    // The header has whole seconds and some delay: only a wrong clock matters.
    if (Math.abs(date - Date.now()) > 30000) this.#offset = date - Date.now();
    if (answer.ok) return answer;
    const seconds = Number(answer.headers.get("Retry-After")) || 5;
    const body = await answer.json().catch(() => ({}));
    if (answer.status === 401) throw new Failure("error-signed-out");
    if (answer.status === 429 || body.error === "provider_limits") throw new Failure("error-limited", { seconds });
    if (answer.status === 404 && method === "DELETE") throw new Failure("error-gone");
    if (answer.status === 409) throw new Failure("error-current");
    // The app's own error: it cannot reach the receiver, or got no answer in time.
    if (body.error === "temporarily_unavailable" && method === "DELETE") throw new Failure("error-lost");
    if (String(body.error).startsWith("provider_")) throw new Failure("error-provider");
    throw new Failure(answer.status >= 500 ? "error-service" : "error-other");
  }

  async load() {
    const current = ++this.#loads;
    this.#draw();
    try {
      const sessions = await (await this.#request("GET")).json();
      if (current !== this.#loads) return;
      // An unconfirmed session that still exists can be ended again.
      for (const { id } of sessions) if (this.#terminations.get(id)?.state === "unconfirmed") this.#terminations.delete(id);
      if (this.#group?.some((id) => !this.#terminations.has(id))) this.#group = null;
      // A session that is ending stays in the list until it has ended.
      const kept = (this.#sessions ?? []).filter(
        (old) => this.#terminations.has(old.id) && !sessions.some((session) => session.id === old.id));
      this.#sessions = [...sessions, ...kept];
      this.#failure = null;
      this.dispatchEvent(new CustomEvent("sessions-loaded", { detail: { sessions } }));
    } catch (failure) {
      if (current === this.#loads) this.#failed(failure);
    }
    this.#draw();
  }

  #failed(failure) {
    this.#failure = failure instanceof Failure ? failure : new Failure("error-other");
    if (this.#failure.kind === "error-signed-out") {
      this.#sessions = this.#group = null;
      this.#terminations.clear();
    }
  }

  async #end(id) {
    if (this.#pending.has(id)) return;      // a double click
    this.#pending.add(id);
    this.#confirming = null;
    this.#failure = null;
    this.#terminations.set(id, { state: "begun", final: false, apps: { total: 0, let_go: 0 } });
    this.#draw();
    this.#focus(`row-${id}`);      // never another device's button
    try {
      const state = await (await this.#request("DELETE", `/${encodeURIComponent(id)}`)).json();
      this.#follow(id, state);
    } catch (failure) {
      this.#terminations.delete(id);
      this.#failed(failure);
      if (this.#failure.kind === "error-gone") {
        this.#sessions = this.#sessions?.filter((session) => session.id !== id) ?? null;
      }
    }
    this.#pending.delete(id);
    this.#draw();
    this.#restoreFocus(id);
  }

  async #endOthers() {
    if (this.#pending.has("others")) return;
    this.#pending.add("others");
    this.#confirming = null;
    this.#failure = null;
    this.#group = null;
    this.#draw();
    this.#focus("sum");
    try {
      const { sessions, more } = await (await this.#request("DELETE")).json();
      this.#followGroup(sessions);
      if (more) setTimeout(() => this.load(), 2000);
    } catch (failure) {
      this.#failed(failure);
    }
    this.#pending.delete("others");
    this.#draw();
    this.#restoreFocus("others");
  }

  /* Polls all sessions that end together with one request per second. */
  async #followGroup(states) {
    const ids = states.map((state) => state.id);
    this.#group = ids;
    for (const state of states) this.#terminations.set(state.id, state);
    this.#draw();
    for (let tries = 0; this.#alive && this.#group === ids && tries < 180; tries += 1) {
      if (ids.every((id) => this.#terminations.get(id)?.final)) break;
      // The first time early: with a fast provider everything is done by then.
      await wait(tries ? GROUP_POLL_MS : GROUP_POLL_MS / 4);
      let current;
      try {
        current = (await (await this.#request("GET", "/state")).json()).sessions;
      } catch (failure) {
        if (failure instanceof Failure && failure.kind === "error-signed-out") {
          this.#failed(failure);
          return this.#draw();
        }
        if (failure.kind !== "error-other") continue;
        for (const id of ids) this.#follow(id, this.#terminations.get(id));      // an older receiver
        return;
      }
      for (const state of current) if (ids.includes(state.id)) this.#update(state.id, state);
      if (!this.#confirming) this.#draw();
      const missing = ids.filter((id) => !current.some((state) => state.id === id));
      // Another tab has ended further sessions since: poll these one by one.
      for (const id of missing) this.#follow(id, this.#terminations.get(id));
      if (missing.length) return;
    }
    if (this.#group === ids) this.#announce(this.#summary());
  }

  /* One sentence about all sessions that end together. */
  #summary() {
    const states = this.#group.map((id) => this.#terminations.get(id));
    const number = (value) => new Intl.NumberFormat(this.#language).format(value);
    const gone = states.filter((state) => state?.gone);
    const values = { done: number(gone.length), count: number(states.length) };
    if (!states.every((state) => state?.final)) return this.#text("others-ending", values);
    if (gone.length < states.length) return this.#text("others-partly", values);
    const all = gone.every(({ apps }) => (apps?.let_go ?? 0) >= (apps?.total ?? 0));
    return this.#text(all ? "others-done" : "others-later", values);
  }

  /* Follows a termination until it is final: by events if possible, otherwise by polling, of many
     each in turn. */
  async #follow(id, state) {
    this.#terminations.set(id, state);
    this.#draw();
    this.#followed += 1;
    try {
      await this.#untilFinal(id);
    } finally {
      this.#followed -= 1;
    }
  }

  async #untilFinal(id) {
    let events = true;
    for (let tries = 0; this.#alive && !this.#terminations.get(id)?.final && tries < 180; tries += 1) {
      const streams = events && this.#streams < MAX_STREAMS;
      if (streams) this.#streams += 1;
      else if (tries === 0) await wait(this.#pause);
      try {
        const path = `/${encodeURIComponent(id)}`;
        if (streams) {
          await this.#listen(id, await this.#request("GET", `${path}/events`, "text/event-stream"));
        } else {
          this.#onProgress(id, await (await this.#request("GET", `${path}/state`)).json());
        }
      } catch (failure) {
        if (failure instanceof Failure && failure.kind === "error-signed-out") {
          this.#failed(failure);
          return this.#draw();
        }
        if (streams) events = false;      // this app's server cannot stream, or the connection broke
      } finally {
        if (streams) this.#streams -= 1;
      }
      if (!this.#terminations.get(id)?.final) await wait(this.#pause);
    }
  }

  get #pause() { return Math.max(1000, POLL_MS * (this.#followed - this.#streams)); }

  async #listen(id, answer) {
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return;
      text += value;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const name = /^event: (.*)$/m.exec(block)?.[1];
        const data = /^data: (.*)$/m.exec(block)?.[1];
        if (name === "ended") throw new Failure("error-signed-out");
        if (name === "state" && data) this.#onProgress(id, JSON.parse(data));
      }
    }
  }

  #update(id, state) {
    const before = this.#terminations.get(id);
    this.#terminations.set(id, state);
    if (state.final && !before?.final && state.gone) {
      this.dispatchEvent(new CustomEvent("session-ended", { detail: { id } }));
    }
  }

  #onProgress(id, state) {
    this.#update(id, state);
    const session = this.#sessions?.find((session) => session.id === id);
    if (session) this.#announce(`${this.#device(session)}: ${this.#progressText(state)}`);
    if (!this.#confirming) this.#draw();
  }

  #announce(text) {
    if (this.#announcer.textContent !== text) this.#announcer.textContent = text;
  }

  /* -- rendering ---------------------------------------------------------------------------- */

  #draw() {
    if (!this.#alive) return;
    const focused = this.#root.activeElement?.dataset.key;
    const parts = [];
    if (this.#failure) parts.push(this.#notice());
    if (this.#sessions === null) {
      if (!this.#failure) parts.push(make("p", { class: "wait" }, this.#text("loading")));
    } else if (this.#sessions.length === 0) {
      parts.push(make("p", { class: "none" }, this.#text("none")));
    } else {
      parts.push(make("ul", { part: "list" }, ...this.#sessions.map((session) => this.#row(session))));
      parts.push(this.#foot());
    }
    this.#content.lang = this.#language ?? "";
    this.setAttribute("aria-busy", String(this.#pending.size > 0 || (this.#sessions === null && !this.#failure)));
    this.#content.replaceChildren(...parts);
    if (!sheet) this.#content.append(make("style", {}, STYLE));
    if (focused) this.#root.querySelector(`[data-key="${escaped(focused)}"]`)?.focus();
  }

  #notice() {
    const { kind, values } = this.#failure;
    const again = kind === "error-signed-out"
      ? this.#button("sign-in", "sign-in", () => this.#signIn())
      : this.#button("retry", "retry", () => { this.#failure = null; this.load(); });
    return make("div", { class: "notice", role: "alert" }, make("p", {}, this.#text(kind, values)), again);
  }

  #signIn() {
    const event = new CustomEvent("sign-in-needed", { cancelable: true });
    if (this.dispatchEvent(event)) location.assign(this.getAttribute("sign-in-url") || "/");
  }

  #button(key, text, on, options = {}) {
    return make("button", { type: "button", part: "button", "data-key": key, on, ...options }, this.#text(text));
  }

  #device(session) {
    const { browser, os } = session.device ?? {};
    if (browser && os) return this.#text("on", { browser, os });
    return browser || os || this.#text("unknown-device");
  }

  #row(session) {
    const name = this.#device(session);
    const end = this.#terminations.get(session.id);
    const label = `s-${session.id}`;
    const row = make("li", { part: "card", class: end?.gone ? "over" : null, "data-id": session.id,
      "data-key": `row-${session.id}`, tabindex: end ? "-1" : null },
      this.#icon(session.device?.kind),
      make("div", { class: "what" },
        make("div", { class: "name" }, make("span", { id: label }, name),
          session.current ? make("span", { class: "badge" }, this.#text("current")) : null),
        this.#facts(session)));
    if (end) {
      row.append(this.#progress(end));
    } else if (this.#confirming === session.id) {
      row.append(this.#confirm("confirm-one", { device: name }, () => this.#end(session.id)));
    } else if (!session.current) {
      row.append(this.#button(session.id, "sign-out", () => this.#confirmFor(session.id),
        { class: "danger", disabled: this.#pending.has("others"), "aria-describedby": `f-${session.id}`,
          "aria-label": this.#text("sign-out-of", { device: name }) }));
    }
    return row;
  }

  #facts(session) {
    const { last_ip: lastIp, initial_ip: firstIp } = session.device ?? {};
    const facts = make("div", { class: "facts", id: `f-${session.id}` });
    const line = (text, time, ip) => {
      if (!time) return;
      const shown = make("span", { title: new Date(time).toLocaleString(this.#language) });
      shown.textContent = this.#text(ip ? `${text}-from` : text, { when: this.#when(time), ip });
      facts.append(shown);
    };
    line("last-active", session.last_interacted_at, lastIp);
    line("first-seen", session.created_at ?? session.authenticated_at, firstIp);
    return facts;
  }

  /* The progress in words. */
  #progressText(end) {
    const { total = 0, let_go: done = 0 } = end.apps ?? {};
    if (end.state === "unconfirmed") return this.#text("unconfirmed");
    if (!end.final || !end.gone) {
      return total > 0 ? this.#text("progress", { done, total }) : `${this.#text("ending")} …`;
    }
    if (total === 0) return this.#text("done-quietly");
    return done >= total ? this.#text("done") : this.#text("done-partly", { done, total });
  }

  #progress(end) {
    const { total = 0, let_go: done = 0 } = end.apps ?? {};
    const over = end.final && end.gone;
    const shown = make("div", { class: over ? "progress good" : "progress" }, this.#progressText(end));
    if (!end.final && total > 0) {
      const filled = make("i");
      filled.style.transform = `scaleX(${done / total})`;
      shown.append(make("div", { class: "bar", "aria-hidden": "true" }, filled));
    }
    return shown;
  }

  #confirm(text, values, yes) {
    const ask = make("div", { class: "ask", role: "group", "aria-label": this.#text(text, values) },
      make("p", {}, this.#text(text, values)),
      this.#button("yes", "yes", yes, { class: "sure" }),
      this.#button("no", "no", () => this.#cancel()));
    ask.addEventListener("keydown", (event) => { if (event.key === "Escape") this.#cancel(); });
    return ask;
  }

  #confirmFor(what) {
    this.#confirming = what;
    this.#draw();
    this.#root.querySelector('[data-key="no"]')?.focus();
  }

  #cancel() {
    const key = this.#confirming;
    this.#confirming = null;
    this.#draw();
    this.#root.querySelector(`[data-key="${escaped(key)}"]`)?.focus();
  }

  #foot() {
    const others = this.#sessions.filter((session) => !session.current && !this.#terminations.has(session.id));
    const foot = make("div", { class: "foot" });
    if (this.#pending.has("others") || this.#group) {
      const text = this.#group ? this.#summary() : `${this.#text("ending")} …`;
      foot.append(make("p", { class: "sum", "data-key": "sum", tabindex: "-1" }, text));
    }
    if (this.#confirming === "others") {
      const count = new Intl.NumberFormat(this.#language).format(others.length);
      const ask = this.#confirm("confirm-others", { count }, () => this.#endOthers());
      ask.className = "foot";
      return ask;
    }
    if (others.length && this.#sessions.some((session) => session.current)) {
      foot.append(this.#button("others", "sign-out-others", () => this.#confirmFor("others"),
        { class: "danger", disabled: this.#pending.has("others") }));
    } else if (!others.length && !this.#terminations.size) {
      foot.append(make("p", { class: "none" }, this.#text("only-this")));
    }
    return foot;
  }

  #icon(kind) {
    const space = "http://www.w3.org/2000/svg";
    const svg = document.createElementNS(space, "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    for (const shape of SHAPES[kind] ?? SHAPES.unknown) {
      const path = document.createElementNS(space, "path");
      path.setAttribute("d", shape);
      svg.append(path);
    }
    return make("div", { class: "icon", "aria-hidden": "true" }, svg);
  }

  #focus(key) {
    this.#root.querySelector(`[data-key="${escaped(key)}"]`)?.focus({ preventScroll: true });
  }

  /* After a failure: focuses the button again, or the notice. */
  #restoreFocus(key) {
    if (this.#root.activeElement) return;
    this.#focus(key);
    if (!this.#root.activeElement) this.#root.querySelector(".notice button")?.focus({ preventScroll: true });
  }
}

function escaped(value) {
  return CSS.escape(String(value));
}

if (!customElements.get("active-sessions")) customElements.define("active-sessions", ActiveSessions);

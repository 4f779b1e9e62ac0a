/* <active-sessions>: a user's own sessions; sign out one, or all others, and see it done.

   Attributes  src       where the sessions are (default: beside this file, as the app's route has
                         both; a copy elsewhere or in a bundle has to be told)
               sign-in-url  where to sign in again (default /)
               lang      for times and numbers (default: the page's). Without any text-..., which
                         are in English, it has to be English, too
               text-...  any text of TEXTS below, such as text-sign-out="Abmelden";
                         {names} in braces are filled in
   Property    getToken  an async function: an access token, where no cookie of this origin does
   Events      sessions-loaded, session-ended (detail.id), sign-in-needed: cancel it to stay
   Style       --as-accent, --as-danger, --as-surface, --as-line, --as-ink, --as-quiet, --as-radius,
               --as-font; ::part(card), ::part(button). Dark where the page's color-scheme is:
               one that stays light when the system is dark has a component that does */

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
  progress: "{done} of {total} apps have let go",
  done: "Signed out. All apps have let go.",
  "done-partly": "Signed out. {done} of {total} apps have let go; the others will when they are used.",
  "done-quietly": "Signed out.",
  "others-ending": "{done} of {count} sessions signed out",
  "others-done": "{count} sessions signed out. All apps have let go.",
  "others-later": "{count} sessions signed out. Some apps will let go when they are used.",
  "others-partly": "{done} of {count} sessions signed out. Your provider has not confirmed the others yet.",
  unconfirmed: "Your provider has not confirmed this yet. Look again in a few minutes.",
  "only-this": "You are signed in nowhere else.",
  none: "No active sessions.",
  retry: "Try again",
  "sign-in": "Sign in again",
  "error-signed-out": "Your sign-in has ended. Sign in again to see your sessions.",
  "error-limited": "Too many requests. Try again in {seconds} s.",
  "error-provider": "Your provider does not answer right now. Nothing was changed.",
  "error-service": "This does not work right now. Nothing was changed.",
  "error-lost": "No answer came, so this may have been done or not. Look again.",
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

/* A browser has six connections to one origin, an app a thread for each stream: a few ends are
   listened to, the others asked for in turn, at a pace that leaves room within a user's limit. */
const MOST_STREAMS = 3;
const POLL_MS = 700;

/* All that end with one request are asked for with one. */
const GROUP_POLL_MS = 1000;

/* Of this page's origin, wherever the file comes from. */
const BESIDE = new URL("sessions", import.meta.url).pathname;

const wait = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/* Texts are set as text, never as markup: a user agent is whatever somebody has sent. */
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
  #shown = make("div");
  #said = make("div", { class: "said", role: "status" });      // stays, so that changes are read out
  #sessions = null;
  #ends = new Map();      // id -> how far its end is
  #asking = null;         // the id, or "others", that is to be confirmed
  #failure = null;
  #group = null;          // the ids that end with one request; what is said of them, in the end
  #pending = new Set();   // what is being asked for: ids, and "others"
  #offset = 0;            // milliseconds that the server's clock is ahead of the browser's
  #loads = 0;
  #timer = null;
  #alive = false;
  #getToken = null;
  #followed = 0;
  #streams = 0;

  constructor() {
    super();
    // Set on the element before this script has come, it would hide the accessor below.
    if (Object.hasOwn(this, "getToken")) {
      this.#getToken = this.getToken;
      delete this.getToken;
    }
  }

  get getToken() { return this.#getToken; }
  set getToken(value) {
    this.#getToken = value;
    if (this.#alive) this.load();      // what was asked without it was refused
  }

  connectedCallback() {
    if (sheet) this.#root.adoptedStyleSheets = [sheet];
    this.#root.append(this.#shown, this.#said);
    this.#alive = true;
    this.load();
    this.#timer = setInterval(() => { if (!this.#pending.size && !this.#asking) this.#draw(); }, 30000);
    document.addEventListener("visibilitychange", this.#seen);
  }

  disconnectedCallback() {
    this.#alive = false;
    clearInterval(this.#timer);
    document.removeEventListener("visibilitychange", this.#seen);
  }

  #seen = () => { if (document.visibilityState === "visible" && !this.#asking) this.load(); };

  get #src() { return (this.getAttribute("src") || BESIDE).replace(/\/$/, ""); }

  #text(name, values = {}) {
    const text = this.getAttribute(`text-${name}`) ?? TEXTS[name];
    return text.replace(/\{(\w+)\}/g, (whole, key) => (key in values ? String(values[key]) : whole));
  }

  /* Texts and times in one language: the texts are in English unless the page has its own. */
  get #language() {
    const wanted = this.lang || document.documentElement.lang || undefined;
    const translated = this.getAttributeNames().some((name) => name.startsWith("text-"));
    return translated || /^en\b/i.test(wanted ?? "") ? wanted : "en";
  }

  #when(time) {
    // None of these times is still to come, whatever the clocks say.
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

  /* -- asking ------------------------------------------------------------------------------- */

  async #ask(method, path = "", accept = "application/json") {
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
    // It has whole seconds, and may have been on its way for some: only a wrong clock counts.
    if (Math.abs(date - Date.now()) > 30000) this.#offset = date - Date.now();
    if (answer.ok) return answer;
    const seconds = Number(answer.headers.get("Retry-After")) || 5;
    const said = await answer.json().catch(() => ({}));
    if (answer.status === 401) throw new Failure("error-signed-out");
    if (answer.status === 429 || said.error === "provider_limits") throw new Failure("error-limited", { seconds });
    if (answer.status === 404 && method === "DELETE") throw new Failure("error-gone");
    if (answer.status === 409) throw new Failure("error-current");
    // The app's own word: of the receiver it knows nothing, or no answer in time.
    if (said.error === "temporarily_unavailable" && method === "DELETE") throw new Failure("error-lost");
    if (String(said.error).startsWith("provider_")) throw new Failure("error-provider");
    throw new Failure(answer.status >= 500 ? "error-service" : "error-other");
  }

  async load() {
    const mine = ++this.#loads;
    this.#draw();
    try {
      const sessions = await (await this.#ask("GET")).json();
      if (mine !== this.#loads) return;
      // What was given up and is still there can be tried again.
      for (const { id } of sessions) if (this.#ends.get(id)?.state === "unconfirmed") this.#ends.delete(id);
      if (this.#group?.some((id) => !this.#ends.has(id))) this.#group = null;
      // What is ending stays until it is seen to have ended.
      const kept = (this.#sessions ?? []).filter(
        (old) => this.#ends.has(old.id) && !sessions.some((one) => one.id === old.id));
      this.#sessions = [...sessions, ...kept];
      this.#failure = null;
      this.dispatchEvent(new CustomEvent("sessions-loaded", { detail: { sessions } }));
    } catch (failure) {
      if (mine === this.#loads) this.#failed(failure);
    }
    this.#draw();
  }

  #failed(failure) {
    this.#failure = failure instanceof Failure ? failure : new Failure("error-other");
    if (this.#failure.kind === "error-signed-out") {
      this.#sessions = this.#group = null;
      this.#ends.clear();
    }
  }

  async #end(id) {
    if (this.#pending.has(id)) return;      // a double click
    this.#pending.add(id);
    this.#asking = null;
    this.#failure = null;
    this.#ends.set(id, { state: "begun", final: false, apps: { total: 0, let_go: 0 } });
    this.#draw();
    this.#focus(`row-${id}`);      // not another device's button
    try {
      const state = await (await this.#ask("DELETE", `/${encodeURIComponent(id)}`)).json();
      this.#follow(id, state);
    } catch (failure) {
      this.#ends.delete(id);
      this.#failed(failure);
      if (this.#failure.kind === "error-gone") {
        this.#sessions = this.#sessions?.filter((one) => one.id !== id) ?? null;
      }
    }
    this.#pending.delete(id);
    this.#draw();
    this.#focusAgain(id);
  }

  async #endOthers() {
    if (this.#pending.has("others")) return;
    this.#pending.add("others");
    this.#asking = null;
    this.#failure = null;
    this.#group = null;
    this.#draw();
    this.#focus("sum");
    try {
      const { sessions, more } = await (await this.#ask("DELETE")).json();
      this.#followGroup(sessions);
      if (more) setTimeout(() => this.load(), 2000);
    } catch (failure) {
      this.#failed(failure);
    }
    this.#pending.delete("others");
    this.#draw();
    this.#focusAgain("others");
  }

  /* All that end together: one question for all of them each second, and one sentence. */
  async #followGroup(states) {
    const ids = states.map((state) => state.id);
    this.#group = ids;
    for (const state of states) this.#ends.set(state.id, state);
    this.#draw();
    for (let tries = 0; this.#alive && this.#group === ids && tries < 180; tries += 1) {
      if (ids.every((id) => this.#ends.get(id)?.final)) break;
      // The first time soon: where the provider is quick, everything is done by then.
      await wait(tries ? GROUP_POLL_MS : GROUP_POLL_MS / 4);
      let found;
      try {
        found = (await (await this.#ask("GET", "/state")).json()).sessions;
      } catch (failure) {
        if (failure instanceof Failure && failure.kind === "error-signed-out") {
          this.#failed(failure);
          return this.#draw();
        }
        if (failure.kind !== "error-other") continue;
        for (const id of ids) this.#follow(id, this.#ends.get(id));      // an older receiver
        return;
      }
      for (const state of found) if (ids.includes(state.id)) this.#noted(state.id, state);
      if (!this.#asking) this.#draw();
      const missing = ids.filter((id) => !found.some((state) => state.id === id));
      // Another tab has ended others since: these are asked for one by one.
      for (const id of missing) this.#follow(id, this.#ends.get(id));
      if (missing.length) return;
    }
    if (this.#group === ids) this.#say(this.#sum());
  }

  /* One sentence of all that end together. */
  #sum() {
    const ends = this.#group.map((id) => this.#ends.get(id));
    const number = (value) => new Intl.NumberFormat(this.#language).format(value);
    const gone = ends.filter((end) => end?.gone);
    const values = { done: number(gone.length), count: number(ends.length) };
    if (!ends.every((end) => end?.final)) return this.#text("others-ending", values);
    if (gone.length < ends.length) return this.#text("others-partly", values);
    const all = gone.every(({ apps }) => (apps?.let_go ?? 0) >= (apps?.total ?? 0));
    return this.#text(all ? "others-done" : "others-later", values);
  }

  /* Until every app has let go: by events where they come, else by asking each second, or, of
     many, each in its turn. */
  async #follow(id, state) {
    this.#ends.set(id, state);
    this.#draw();
    this.#followed += 1;
    try {
      await this.#toItsEnd(id);
    } finally {
      this.#followed -= 1;
    }
  }

  async #toItsEnd(id) {
    let events = true;
    for (let tries = 0; this.#alive && !this.#ends.get(id)?.final && tries < 180; tries += 1) {
      const streams = events && this.#streams < MOST_STREAMS;
      if (streams) this.#streams += 1;
      else if (tries === 0) await wait(this.#pause);
      try {
        const path = `/${encodeURIComponent(id)}`;
        if (streams) {
          await this.#listen(id, await this.#ask("GET", `${path}/events`, "text/event-stream"));
        } else {
          this.#progressed(id, await (await this.#ask("GET", `${path}/state`)).json());
        }
      } catch (failure) {
        if (failure instanceof Failure && failure.kind === "error-signed-out") {
          this.#failed(failure);
          return this.#draw();
        }
        if (streams) events = false;      // this app's server streams nothing, or the line broke
      } finally {
        if (streams) this.#streams -= 1;
      }
      if (!this.#ends.get(id)?.final) await wait(this.#pause);
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
        if (name === "state" && data) this.#progressed(id, JSON.parse(data));
      }
    }
  }

  #noted(id, state) {
    const before = this.#ends.get(id);
    this.#ends.set(id, state);
    if (state.final && !before?.final && state.gone) {
      this.dispatchEvent(new CustomEvent("session-ended", { detail: { id } }));
    }
  }

  #progressed(id, state) {
    this.#noted(id, state);
    const session = this.#sessions?.find((one) => one.id === id);
    if (session) this.#say(`${this.#device(session)}: ${this.#told(state)}`);
    if (!this.#asking) this.#draw();
  }

  #say(text) {
    if (this.#said.textContent !== text) this.#said.textContent = text;
  }

  /* -- showing ------------------------------------------------------------------------------ */

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
      parts.push(make("ul", { part: "list" }, ...this.#sessions.map((one) => this.#row(one))));
      parts.push(this.#foot());
    }
    this.#shown.lang = this.#language ?? "";
    this.setAttribute("aria-busy", String(this.#pending.size > 0 || (this.#sessions === null && !this.#failure)));
    this.#shown.replaceChildren(...parts);
    if (!sheet) this.#shown.append(make("style", {}, STYLE));
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
    const end = this.#ends.get(session.id);
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
    } else if (this.#asking === session.id) {
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

  /* How far an end is, in words. */
  #told(end) {
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
    const shown = make("div", { class: over ? "progress good" : "progress" }, this.#told(end));
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
    this.#asking = what;
    this.#draw();
    this.#root.querySelector('[data-key="no"]')?.focus();
  }

  #cancel() {
    const key = this.#asking;
    this.#asking = null;
    this.#draw();
    this.#root.querySelector(`[data-key="${escaped(key)}"]`)?.focus();
  }

  #foot() {
    const others = this.#sessions.filter((one) => !one.current && !this.#ends.has(one.id));
    const foot = make("div", { class: "foot" });
    if (this.#pending.has("others") || this.#group) {
      const said = this.#group ? this.#sum() : `${this.#text("ending")} …`;
      foot.append(make("p", { class: "sum", "data-key": "sum", tabindex: "-1" }, said));
    }
    if (this.#asking === "others") {
      const count = new Intl.NumberFormat(this.#language).format(others.length);
      const ask = this.#confirm("confirm-others", { count }, () => this.#endOthers());
      ask.className = "foot";
      return ask;
    }
    if (others.length && this.#sessions.some((one) => one.current)) {
      foot.append(this.#button("others", "sign-out-others", () => this.#confirmFor("others"),
        { class: "danger", disabled: this.#pending.has("others") }));
    } else if (!others.length && !this.#ends.size) {
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

  /* What was asked for did not work: back to its button, or to what is said of it. */
  #focusAgain(key) {
    if (this.#root.activeElement) return;
    this.#focus(key);
    if (!this.#root.activeElement) this.#root.querySelector(".notice button")?.focus({ preventScroll: true });
  }
}

function escaped(value) {
  return CSS.escape(String(value));
}

if (!customElements.get("active-sessions")) customElements.define("active-sessions", ActiveSessions);

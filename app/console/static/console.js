// The console's script: the feed, pages that refresh themselves, and the end of the session.
// It inserts values only as text, and takes every word from the page.

const MAX_ROWS = 300;
const SIGN_IN = "/console/sign-in";
const WAITS = "keys_unavailable";
const RETRY_MS = 3000;
// Bounds the layouts in a burst, so that keys and scrolling keep working.
const DRAW_MS = 250;
const MAX_NEW = 20;
// After a longer absence the page reloads instead of receiving everything it missed.
const MAX_ABSENCE_MS = 600_000;
// A page that refreshes itself: how fast it slows down, to which pause, and when it stops.
const BACKOFF = 1.5;
const MAX_PAUSE_MS = 30_000;
const STOP_MS = 600_000;
// Control and format characters, and all spaces but the plain one.
const INVISIBLE = /(?! )[\p{C}\p{Z}]/u;

/** Goes to the sign-in, which leads back to this page. */
function signIn() {
  const page = location.pathname + location.search;
  location.assign(page === "/console" ? SIGN_IN : `${SIGN_IN}?next=${encodeURIComponent(page)}`);
}

/** Leaves the page if its session is over. */
async function checkSession() {
  try {
    const answer = await fetch("/console/search", { redirect: "manual", headers: { Accept: "application/json" } });
    if (answer.status === 401) signIn();
  } catch {
    // The service is unavailable; the caller retries.
  }
}

/** The events of a stream, as they arrive. */
async function* eventsOf(body) {
  let rest = "";
  for await (const chunk of chunksOf(body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop();
    const events = blocks.map((block) => Object.fromEntries(block.split("\n").map((line) => {
      const at = line.indexOf(": ");
      return [line.slice(0, at), line.slice(at + 2)];
    })));
    yield events.filter((event) => event.event);
  }
}

async function* chunksOf(stream) {
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/**
 * Receives server-sent events while the page is visible, because a browser has six connections for
 * all tabs together. Visible again, it continues after `cursor`. Uses fetch, because EventSource
 * cannot start at a cursor and does not reconnect after a 503.
 *
 * `onEvent` receives each event, `onState` whether the stream is open; `onAbsence` runs after a long
 * absence and returns whether it has handled it.
 */
function listen(url, { cursor = "", onEvent = () => {}, onState = () => {}, onAbsence = () => false }) {
  let stop = null;
  let timer = 0;
  let receivedAt = Date.now();
  const open = async () => {
    clearTimeout(timer);
    if (stop || document.hidden) return;
    const own = new AbortController();
    stop = own;
    try {
      const headers = { Accept: "text/event-stream" };
      if (cursor) headers["Last-Event-ID"] = cursor;
      const answer = await fetch(url, { headers, redirect: "error", signal: own.signal });
      if (answer.status === 400) cursor = ""; // perhaps of apps that are no longer configured
      if (answer.ok) {
        if (Date.now() - receivedAt > MAX_ABSENCE_MS && onAbsence()) return;
        onState(true);
        for await (const events of eventsOf(answer.body)) {
          receivedAt = Date.now();
          for (const event of events) {
            if (event.id) cursor = event.id; // in a burst not every event has one
            onEvent(event.event, JSON.parse(event.data));
          }
        }
      }
    } catch {
      // Aborted, or unavailable: see below.
    }
    if (own.signal.aborted) return;
    stop = null;
    onState(false);
    checkSession();
    timer = setTimeout(open, RETRY_MS);
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stop?.abort();
      stop = null;
    } else {
      open();
    }
  });
  open();
}

/**
 * Fetches the page again and patches the part that changes, until the page is final. Unchanged nodes
 * stay in place, with a selection, the focus, and open details. While `data-key` stays the same the
 * pause grows, and after `STOP_MS` it stops, because the key may never change. Only the time between
 * two successful refreshes counts, not the time in a hidden tab or without the service.
 */
function refresh(part) {
  const stopped = document.getElementById("stopped");
  let pause = 0;
  let timer = 0;
  let loading = false;
  let unchanged = 0;
  let loadedAt = Date.now();
  const schedule = () => {
    const first = Number(part.dataset.refresh) * 1000;
    if (!first) return;
    const settled = "key" in part.dataset;
    if (settled && unchanged > STOP_MS) {
      stopped.hidden = false;
      return;
    }
    pause = settled && pause ? Math.min(pause * BACKOFF, Math.max(first, MAX_PAUSE_MS)) : first;
    timer = setTimeout(load, pause);
  };
  const changes = (fresh) =>
    fresh.dataset.key !== part.dataset.key || fresh.dataset.refresh !== part.dataset.refresh;
  const load = async () => {
    clearTimeout(timer);
    if (loading || document.hidden) return; // visible again, it loads at once
    loading = true;
    let fresh = null;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === SIGN_IN) return signIn();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      fresh = answer.ok ? page.getElementById("live") : null;
    } catch {
      // Unavailable: it retries.
    }
    loading = false;
    if (fresh) {
      if (loadedAt) unchanged += Date.now() - loadedAt;
      if (changes(fresh)) pause = unchanged = 0;
      patch(part, fresh);
    }
    loadedAt = fresh ? Date.now() : 0;
    schedule();
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !Number(part.dataset.refresh)) return;
    pause = unchanged = loadedAt = 0;
    stopped.hidden = true;
    load();
  });
  schedule();
}

/** Makes `old` equal to `fresh` and changes only nodes that differ. */
function patch(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE || old.nodeName !== fresh.nodeName || old.id !== fresh.id) {
    if (old.nodeType === Node.TEXT_NODE && fresh.nodeType === Node.TEXT_NODE) old.data = fresh.data;
    else old.replaceWith(document.importNode(fresh, true));
    return;
  }
  for (const { name } of [...old.attributes]) {
    if (!fresh.hasAttribute(name) && !(name === "open" && old.nodeName === "DETAILS")) old.removeAttribute(name);
  }
  for (const { name, value } of fresh.attributes) {
    if (old.getAttribute(name) !== value) old.setAttribute(name, value);
  }
  const [nodes, freshNodes] = [[...old.childNodes], [...fresh.childNodes]];
  freshNodes.forEach((node, index) => {
    if (index < nodes.length) patch(nodes[index], node);
    else old.append(document.importNode(node, true));
  });
  for (const node of nodes.slice(freshNodes.length)) node.remove();
}

function element(name, text, members = {}) {
  return Object.assign(document.createElement(name), { textContent: text }, members);
}

/** An id isolated from the text around it, with each invisible character named: the filter `ident`. */
function ident(text) {
  const isolated = element("bdi", "");
  if (!INVISIBLE.test(text)) isolated.textContent = text;
  else for (const char of text) {
    if (!INVISIBLE.test(char)) {
      isolated.append(char);
      continue;
    }
    const named = element("bdi", char, { className: "ctl" });
    named.dataset.name = `U+${char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    isolated.append(named);
  }
  isolated.normalize();
  return isolated;
}

function moment(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
}

function feed(body) {
  const status = document.getElementById("feed-state");
  const nothing = document.getElementById("nothing");
  const newestOnly = document.getElementById("newest-only");
  const pause = document.getElementById("pause");
  const filter = new URLSearchParams(location.search);
  const names = [...document.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const text = body.dataset;
  let held = [];
  let paused = false;
  let scheduled = false;
  let connected = null;

  const showStatus = () => {
    const waiting = held.length ? `, ${held.length} ${status.dataset.held}` : "";
    const [tone, label] = connected === false ? ["bad", status.dataset.away]
      : paused ? ["wait", status.dataset.paused + waiting] : ["good", status.dataset.live];
    status.className = `pill ${tone}`;
    status.textContent = label;
  };

  const matches = (entry) =>
    ["app", "kind", "reason"].every((name) => !filter.get(name) || filter.get(name) === entry[name]) &&
    (!filter.get("issuer") || filter.get("issuer") === entry.iss) &&
    (!filter.get("text") || entry.text.includes(filter.get("text").trim().toLowerCase()));

  const cell = (row, index, content, style) => {
    const td = row.insertCell();
    td.dataset.name = names[index];
    if (style) td.className = style;
    td.append(content);
  };
  const rowOf = (entry, className) => {
    const row = element("tr", "", { className });
    cell(row, 0, element("time", entry.at ? moment(entry.at) : "–"));
    cell(row, 1, element("span", entry.what, { className: `pill ${entry.tone}` }));
    const link = entry.href && element("a", "", { href: entry.href });
    link?.append(ident(entry.subject));
    cell(row, 2, link || entry.subject || "–", "id");
    cell(row, 3, entry.app || "–");
    cell(row, 4, entry.iss ? ident(entry.iss) : "–", "id");
    return row;
  };

  const draw = () => {
    scheduled = false;
    if (paused || !held.length) return;
    const rows = document.createDocumentFragment();
    // In a burst the highlight of new rows helps nobody, and hundreds of fading rows are slow.
    const name = held.length > MAX_NEW ? "" : "new";
    for (const entry of held.reverse()) rows.append(rowOf(entry, name));
    held = [];
    body.prepend(rows);
    while (body.rows.length > MAX_ROWS) body.deleteRow(-1);
    nothing.hidden = true;
    newestOnly.hidden = body.rows.length < MAX_ROWS;
  };
  const add = (entry) => {
    if (!(entry.always || matches(entry))) return;
    held.push(entry);
    // Older entries would drop out of the table at once.
    if (held.length > MAX_ROWS) held = held.slice(-MAX_ROWS);
    if (paused) return showStatus();
    if (!scheduled) {
      scheduled = true;
      setTimeout(draw, DRAW_MS);
    }
  };

  const href = (event) => {
    const query = new URLSearchParams();
    for (const name of ["iss", "sid", "sub"]) if (event[name]) query.set(name, event[name]);
    if (!event.sid && !event.sub) query.set("everybody", "1");
    return `/console/story?${query}`;
  };
  const searchable = (...values) => values.flat().filter(Boolean).join(" ").toLowerCase();
  const refusalsOnly = filter.get("reason") || filter.get("kind") === "refusal";
  const at = (id) => Number(String(id).split("-")[0]) / 1000;

  const rows = {
    // An unreadable event passes every filter, because it may match.
    logout: (event) => event.unreadable
      ? { at: at(event.id), app: event.app, what: text.unreadable, tone: "wait", always: !refusalsOnly, text: "" }
      : {
          at: at(event.id), app: event.app, kind: event.kind, iss: event.iss,
          subject: event.sid || event.sub || text.everybody,
          what: text[event.kind], tone: "good", href: href(event),
          text: searchable(event.app, event.iss, event.sid, event.sub, event.source, event.client_ids || []),
        },
    refusal: (refusal) => ({
      at: refusal.at, kind: "refusal", reason: refusal.reason, iss: refusal.iss, subject: text.toDo,
      what: `${refusal.reason === WAITS ? text.waits : text.refused}: ${refusal.reason}`,
      tone: refusal.reason === WAITS ? "wait" : "bad",
      href: `/console/refusals?id=${encodeURIComponent(refusal.id)}`,
      text: searchable(refusal.iss, refusal.aud, refusal.reason, refusal.rule, refusal.kid),
    }),
    missed: ({ app }) => ({ at: 0, app: app === "!refusals" ? "" : app, what: text.missed, tone: "wait", always: true }),
  };

  const app = filter.get("app");
  listen(app ? `/api/feed?app=${encodeURIComponent(app)}` : "/api/feed", {
    cursor: text.cursor,
    onEvent: (name, data) => rows[name] && add(rows[name](data)),
    onState: (open) => {
      connected = open;
      showStatus();
    },
    onAbsence: () => {
      if (paused) return false; // keep the rows that are being read
      location.reload();
      return true;
    },
  });

  const togglePause = () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    showStatus();
    draw();
  };
  pause.addEventListener("click", togglePause);
  document.getElementById("announce").addEventListener("change", (change) => {
    body.setAttribute("aria-live", change.target.checked ? "polite" : "off");
  });
  newestOnly.textContent = newestOnly.dataset.text.replace("{max}", MAX_ROWS);

  const move = (by) => {
    const links = [...body.querySelectorAll("a")];
    const now = links.indexOf(document.activeElement);
    links[Math.min(Math.max(now + by, 0), links.length - 1)]?.focus();
  };
  document.addEventListener("keydown", (key) => {
    if (key.ctrlKey || key.metaKey || key.altKey || key.target.closest("input, select, textarea")) return;
    const action = { "/": () => document.getElementById("f-text").focus(), p: togglePause, j: () => move(1), k: () => move(-1) }[key.key];
    if (action) {
      key.preventDefault();
      action();
    }
  });
}

const rows = document.getElementById("rows");
if (rows) feed(rows);
else listen("/console/presence", {});
const live = document.getElementById("live");
if (live) refresh(live);

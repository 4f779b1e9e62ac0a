// The console's script: the feed, parts that look anew by themselves, and the end of the session.
// Everything it shows is put in as text; every word of it comes with the page.

const MOST_ROWS = 300;
const SIGN_IN = "/console/sign-in";
const WAITS = "keys_unavailable";
const RETRY_MS = 3000;
// In a burst the table is laid out so seldom that keys and scrolling come in between.
const DRAW_MS = 250;
const MOST_NEW = 20;
// Whoever was away for longer begins anew, and is not sent all that has come meanwhile.
const LONG_MS = 600_000;
// A page that looks again: how fast it slows down, to what, and when it stops.
const SLOWER = 1.5;
const SLOWEST_MS = 30_000;
const STOP_MS = 600_000;
// Controls, formats and blanks but the plain one.
const UNSEEN = /(?! )[\p{C}\p{Z}]/u;

/** To the sign-in, which leads back to this page. */
function signIn() {
  const page = location.pathname + location.search;
  location.assign(page === "/console" ? SIGN_IN : `${SIGN_IN}?next=${encodeURIComponent(page)}`);
}

/** An open page learns that its session is over: ask once, and leave if so. */
async function stillIn() {
  try {
    const answer = await fetch("/console/search", { redirect: "manual", headers: { Accept: "application/json" } });
    if (answer.status === 401) signIn();
  } catch {
    // The service is away; whoever asks tries again.
  }
}

/** The events of a stream, as they come. */
async function* eventsOf(body) {
  let rest = "";
  for await (const chunk of chunksOf(body.pipeThrough(new TextDecoderStream()))) {
    const blocks = (rest + chunk).split("\n\n");
    rest = blocks.pop();
    const events = blocks.map((block) => Object.fromEntries(block.split("\n").map((line) => {
      const at = line.indexOf(": ");
      return [line.slice(0, at), line.slice(at + 2)];
    })));
    yield events.filter((one) => one.event);
  }
}

async function* chunksOf(stream) {
  const reader = stream.getReader();
  for (let next = await reader.read(); !next.done; next = await reader.read()) yield next.value;
}

/**
 * Listens to server-sent events while the page can be seen: a browser has six connections for all
 * tabs together. Shown again, it goes on behind `cursor`. By fetch, for EventSource can not be told
 * where to begin, and does not come back after a 503.
 */
function listen(url, { cursor = "", hear = () => {}, state = () => {}, late = () => false }) {
  let stop = null;
  let timer = 0;
  let heardAt = Date.now();
  const open = async () => {
    clearTimeout(timer);
    if (stop || document.hidden) return;
    const mine = new AbortController();
    stop = mine;
    try {
      const headers = { Accept: "text/event-stream" };
      if (cursor) headers["Last-Event-ID"] = cursor;
      const answer = await fetch(url, { headers, redirect: "error", signal: mine.signal });
      if (answer.status === 400) cursor = ""; // of apps that are configured no more, say
      if (answer.ok) {
        if (Date.now() - heardAt > LONG_MS && late()) return;
        state(true);
        for await (const events of eventsOf(answer.body)) {
          heardAt = Date.now();
          for (const one of events) {
            if (one.id) cursor = one.id; // of a busy moment not each event has one
            hear(one.event, JSON.parse(one.data));
          }
        }
      }
    } catch {
      // Aborted, or away: below.
    }
    if (mine.signal.aborted) return;
    stop = null;
    state(false);
    stillIn();
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
 * Fetches the page again and patches the part that changes, until the page says it is done. What is
 * the same stays as it is: a selection, the focus, what somebody has opened. Where `data-key` stays
 * the same it asks ever more seldom, and in the end no more: it may never change. Only the time
 * between two successful looks counts: hidden, or while the service is away, the page knows nothing.
 */
function refresh(part) {
  const stopped = document.getElementById("stopped");
  let pause = 0;
  let timer = 0;
  let looking = false;
  let unchanged = 0;
  let sawAt = Date.now();
  const plan = () => {
    const first = Number(part.dataset.refresh) * 1000;
    if (!first) return;
    const settled = "key" in part.dataset;
    if (settled && unchanged > STOP_MS) {
      stopped.hidden = false;
      return;
    }
    pause = settled && pause ? Math.min(pause * SLOWER, Math.max(first, SLOWEST_MS)) : first;
    timer = setTimeout(look, pause);
  };
  const changes = (found) =>
    found.dataset.key !== part.dataset.key || found.dataset.refresh !== part.dataset.refresh;
  const look = async () => {
    clearTimeout(timer);
    if (looking || document.hidden) return; // shown again, it looks at once
    looking = true;
    let found = null;
    try {
      const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
      if (answer.redirected && new URL(answer.url).pathname === SIGN_IN) return signIn();
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      found = answer.ok ? page.getElementById("live") : null;
    } catch {
      // Away: it asks again.
    }
    looking = false;
    if (found) {
      if (sawAt) unchanged += Date.now() - sawAt;
      if (changes(found)) pause = unchanged = 0;
      patch(part, found);
    }
    sawAt = found ? Date.now() : 0;
    plan();
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden || !Number(part.dataset.refresh)) return;
    pause = unchanged = sawAt = 0;
    stopped.hidden = true;
    look();
  });
  plan();
}

/** Makes `old` the same as `fresh`, and touches only what differs. */
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
  const [mine, others] = [[...old.childNodes], [...fresh.childNodes]];
  others.forEach((one, index) => {
    if (index < mine.length) patch(mine[index], one);
    else old.append(document.importNode(one, true));
  });
  for (const one of mine.slice(others.length)) one.remove();
}

function element(name, words, members = {}) {
  return Object.assign(document.createElement(name), { textContent: words }, members);
}

/** An id, apart from what stands around it, with each character that nobody would see named: as `ident`. */
function ident(text) {
  const whole = element("bdi", "");
  if (!UNSEEN.test(text)) whole.textContent = text;
  else for (const one of text) {
    if (!UNSEEN.test(one)) {
      whole.append(one);
      continue;
    }
    const named = element("bdi", one, { className: "ctl" });
    named.dataset.name = `U+${one.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
    whole.append(named);
  }
  whole.normalize();
  return whole;
}

function moment(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
}

function feed(body) {
  const said = document.getElementById("feed-state");
  const nothing = document.getElementById("nothing");
  const newestOnly = document.getElementById("newest-only");
  const pause = document.getElementById("pause");
  const wanted = new URLSearchParams(location.search);
  const names = [...document.querySelectorAll("thead th")].map((one) => one.textContent);
  const text = body.dataset;
  let held = [];
  let paused = false;
  let planned = false;
  let connected = null;

  const tell = () => {
    const waiting = held.length ? `, ${held.length} ${said.dataset.held}` : "";
    const [tone, words] = connected === false ? ["bad", said.dataset.away]
      : paused ? ["wait", said.dataset.paused + waiting] : ["good", said.dataset.live];
    said.className = `pill ${tone}`;
    said.textContent = words;
  };

  const lets = (one) =>
    ["app", "kind", "reason"].every((name) => !wanted.get(name) || wanted.get(name) === one[name]) &&
    (!wanted.get("issuer") || wanted.get("issuer") === one.iss) &&
    (!wanted.get("text") || one.text.includes(wanted.get("text").trim().toLowerCase()));

  const cell = (row, index, content, style) => {
    const td = row.insertCell();
    td.dataset.name = names[index];
    if (style) td.className = style;
    td.append(content);
  };
  const rowOf = (one, className) => {
    const row = element("tr", "", { className });
    cell(row, 0, element("time", one.at ? moment(one.at) : "–"));
    cell(row, 1, element("span", one.what, { className: `pill ${one.tone}` }));
    const link = one.href && element("a", "", { href: one.href });
    link?.append(ident(one.whom));
    cell(row, 2, link || one.whom || "–", "id");
    cell(row, 3, one.app || "–");
    cell(row, 4, one.iss ? ident(one.iss) : "–", "id");
    return row;
  };

  const draw = () => {
    planned = false;
    if (paused || !held.length) return;
    const rows = document.createDocumentFragment();
    // In a burst nobody sees which ones are new, and hundreds of rows that fade are slow.
    const name = held.length > MOST_NEW ? "" : "new";
    for (const one of held.reverse()) rows.append(rowOf(one, name));
    held = [];
    body.prepend(rows);
    while (body.rows.length > MOST_ROWS) body.deleteRow(-1);
    nothing.hidden = true;
    newestOnly.hidden = body.rows.length < MOST_ROWS;
  };
  const add = (one) => {
    if (!one || !(one.always || lets(one))) return;
    held.push(one);
    // Older ones would fall out of the table at once.
    if (held.length > MOST_ROWS) held = held.slice(-MOST_ROWS);
    if (paused) return tell();
    if (!planned) {
      planned = true;
      setTimeout(draw, DRAW_MS);
    }
  };

  const href = (event) => {
    const query = new URLSearchParams();
    for (const name of ["iss", "sid", "sub"]) if (event[name]) query.set(name, event[name]);
    if (!event.sid && !event.sub) query.set("everybody", "1");
    return `/console/story?${query}`;
  };
  const words = (...found) => found.flat().filter(Boolean).join(" ").toLowerCase();
  const refusalsOnly = wanted.get("reason") || wanted.get("kind") === "refusal";
  const at = (id) => Number(String(id).split("-")[0]) / 1000;

  const rows = {
    // What can not be read may be the one that is looked for.
    logout: (one) => one.unreadable
      ? { at: at(one.id), app: one.app, what: text.unreadable, tone: "wait", always: !refusalsOnly, text: "" }
      : {
          at: at(one.id), app: one.app, kind: one.kind, iss: one.iss, whom: one.sid || one.sub || text.everybody,
          what: text[one.kind], tone: "good", href: href(one),
          text: words(one.app, one.iss, one.sid, one.sub, one.source, one.client_ids || []),
        },
    refusal: (one) => ({
      at: one.at, kind: "refusal", reason: one.reason, iss: one.iss, whom: text.toDo,
      what: `${one.reason === WAITS ? text.waits : text.refused}: ${one.reason}`, tone: one.reason === WAITS ? "wait" : "bad",
      href: `/console/refusals?id=${encodeURIComponent(one.id)}`,
      text: words(one.iss, one.aud, one.reason, one.rule, one.kid),
    }),
    missed: (one) => ({ at: 0, app: one.app === "!refusals" ? "" : one.app, what: text.missed, tone: "wait", always: true }),
  };

  const app = wanted.get("app");
  listen(app ? `/api/feed?app=${encodeURIComponent(app)}` : "/api/feed", {
    cursor: text.cursor,
    hear: (name, one) => rows[name] && add(rows[name](one)),
    state: (on) => {
      connected = on;
      tell();
    },
    late: () => {
      if (paused) return false; // somebody reads what is there
      location.reload();
      return true;
    },
  });

  const turn = () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    tell();
    draw();
  };
  pause.addEventListener("click", turn);
  document.getElementById("announce").addEventListener("change", (change) => {
    body.setAttribute("aria-live", change.target.checked ? "polite" : "off");
  });
  newestOnly.textContent = newestOnly.dataset.text.replace("{most}", MOST_ROWS);

  const move = (by) => {
    const links = [...body.querySelectorAll("a")];
    const now = links.indexOf(document.activeElement);
    links[Math.min(Math.max(now + by, 0), links.length - 1)]?.focus();
  };
  document.addEventListener("keydown", (key) => {
    if (key.ctrlKey || key.metaKey || key.altKey || key.target.closest("input, select, textarea")) return;
    const act = { "/": () => document.getElementById("f-text").focus(), p: turn, j: () => move(1), k: () => move(-1) }[key.key];
    if (act) {
      key.preventDefault();
      act();
    }
  });
}

const rows = document.getElementById("rows");
if (rows) feed(rows);
else listen("/console/presence", {});
const live = document.getElementById("live");
if (live) refresh(live);

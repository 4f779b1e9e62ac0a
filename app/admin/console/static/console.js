// The console's script: the feed, parts that look anew by themselves, and the end of the session.
// Everything it shows is put in as text.

const MOST_ROWS = 300;
const SIGN_IN = "/console/sign-in";

/** An open page learns that its session is over: ask once, and leave if so. */
async function stillIn() {
  try {
    const answer = await fetch("/console/search", { redirect: "manual", headers: { Accept: "application/json" } });
    if (answer.status === 401) location.assign(SIGN_IN);
  } catch {
    // The service is away; whoever asks tries again.
  }
}

function stayPresent() {
  let stream = null;
  const open = () => {
    if (stream || document.hidden) return;
    stream = new EventSource("/console/presence");
    stream.onerror = () => stillIn();
  };
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) {
      stream?.close();
      stream = null;
    } else {
      stillIn();
      open();
    }
  });
  open();
}

/** Fetches the page again and takes over the part that changes, until the page says it is done. */
function refresh(part) {
  const seconds = Number(part.dataset.refresh);
  if (!seconds) return;
  setTimeout(async () => {
    let next = part;
    if (!document.hidden && !part.contains(document.activeElement)) {
      try {
        const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
        if (answer.redirected) return location.assign(SIGN_IN);
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        const found = answer.ok ? page.getElementById("live") : null;
        if (found) {
          next = document.importNode(found, true);
          part.replaceWith(next);
        }
      } catch {
        // Away: again after the same time.
      }
    }
    refresh(next);
  }, seconds * 1000);
}

function moment(seconds) {
  return new Date(seconds * 1000).toISOString().replace("T", " ").slice(0, 19) + " UTC";
}

function feed(body) {
  const said = document.getElementById("feed-state");
  const nothing = document.getElementById("nothing");
  const pause = document.getElementById("pause");
  const wanted = new URLSearchParams(location.search);
  const names = [...document.querySelectorAll("thead th")].map((one) => one.textContent);
  let held = [];
  let paused = false;
  let planned = false;
  let state = "wait";

  const show = (tone, text) => {
    state = tone;
    said.className = `pill ${tone}`;
    said.textContent = text;
  };
  const tell = () => {
    if (paused) show("wait", held.length ? `${said.dataset.paused}, ${held.length} ${said.dataset.held}` : said.dataset.paused);
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
    return td;
  };
  const pill = (tone, text) => {
    const span = document.createElement("span");
    span.className = `pill ${tone}`;
    span.textContent = text;
    return span;
  };

  const rowOf = (one) => {
    const row = document.createElement("tr");
    row.className = "new";
    const time = document.createElement("time");
    time.textContent = one.at ? moment(one.at) : "";
    cell(row, 0, time);
    cell(row, 1, pill(one.tone, one.what));
    if (one.href) {
      const link = document.createElement("a");
      link.href = one.href;
      link.textContent = one.whom || "all";
      cell(row, 2, link, "id");
    } else {
      cell(row, 2, one.whom, "id");
    }
    cell(row, 3, one.app || "–");
    cell(row, 4, one.iss || "–", "id");
    return row;
  };

  const draw = () => {
    planned = false;
    if (paused || !held.length) return;
    const rows = document.createDocumentFragment();
    for (const one of held.reverse()) rows.append(rowOf(one));
    held = [];
    body.prepend(rows);
    while (body.rows.length > MOST_ROWS) body.deleteRow(-1);
    nothing.hidden = true;
  };
  const add = (one) => {
    if (!lets(one)) return;
    held.push(one);
    // Older ones would fall out of the table at once.
    if (held.length > MOST_ROWS) held = held.slice(-MOST_ROWS);
    if (paused) return tell();
    if (!planned) {
      planned = true;
      requestAnimationFrame(draw);
    }
  };

  const href = (event) => {
    const query = new URLSearchParams();
    for (const name of ["iss", "sid", "sub"]) if (event[name]) query.set(name, event[name]);
    return `/console/story?${query}`;
  };
  const words = (...found) => found.flat().filter(Boolean).join(" ").toLowerCase();

  const app = wanted.get("app");
  const stream = new EventSource(app ? `/api/feed?app=${encodeURIComponent(app)}` : "/api/feed");
  stream.addEventListener("ready", () => {
    if (!paused) show("good", said.dataset.live);
  });
  stream.addEventListener("logout", (message) => {
    const event = JSON.parse(message.data);
    add({
      at: Number(String(event.id).split("-")[0]) / 1000, app: event.app, kind: event.kind, reason: "", iss: event.iss,
      whom: event.sid || event.sub || "", what: body.dataset[event.kind] || event.kind || "?", tone: "good",
      href: event.iss ? href(event) : null,
      text: words(event.app, event.iss, event.sid, event.sub, event.source, event.client_ids || []),
    });
  });
  stream.addEventListener("refusal", (message) => {
    const one = JSON.parse(message.data);
    add({
      at: one.at, app: "", kind: "refusal", reason: one.reason, iss: one.iss, whom: one.sid_hash || "",
      what: `${body.dataset.refusal}: ${one.reason}`, tone: "bad",
      href: `/console/refusals?reason=${encodeURIComponent(one.reason)}`,
      text: words(one.iss, one.aud, one.reason, one.rule, one.kid),
    });
  });
  stream.addEventListener("missed", (message) => {
    const one = JSON.parse(message.data);
    add({ at: 0, app: one.app, kind: "", reason: "", iss: "", whom: "", what: body.dataset.missed, tone: "wait", href: null, text: "" });
  });
  stream.onerror = () => {
    show("bad", said.dataset.away);
    stillIn();
  };
  stream.onopen = () => {
    if (state === "bad") paused ? tell() : show("good", said.dataset.live);
  };

  const turn = () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (paused) return tell();
    show("good", said.dataset.live);
    draw();
  };
  pause.addEventListener("click", turn);
  document.getElementById("announce").addEventListener("change", (change) => {
    body.setAttribute("aria-live", change.target.checked ? "polite" : "off");
  });

  const move = (by) => {
    const links = [...body.querySelectorAll("a")];
    const at = links.indexOf(document.activeElement);
    links[Math.min(Math.max(at + by, 0), links.length - 1)]?.focus();
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
else stayPresent();
const live = document.getElementById("live");
if (live) refresh(live);
